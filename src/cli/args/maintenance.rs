//! Options of `trueup maintenance`.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::yaml::Seconds;

#[derive(Debug, Args)]
#[command(
    after_help = "With `on`, nginx answers visitors with 503, `Retry-After` and a page from the next request on: nothing is \
                  reloaded or restarted, and a running pass does not delay it. The page is \
                  /etc/trueup/templates/nginx/maintenance.html, if there is one. The health check of the app still \
                  reaches it, so that load balancers keep the host, unless --drain is given. Deploys go on; passes exit \
                  with 3 (waiting) and show who did it and why. It lasts until `off` or the end of --for, also over a \
                  reboot. `on` again changes it. Without `on` or `off`, it shows which apps are in maintenance."
)]
pub struct MaintenanceArgs {
    /// Which app [default: show all of this host]
    #[arg(value_name = "APP")]
    pub app: Option<String>,
    /// Begin or end it [default: show it]
    #[arg(value_enum, value_name = "on|off")]
    pub switch: Option<Switch>,
    /// End it by itself after this time, such as `30m`, in the next pass
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
    pub time: Option<Duration>,
    /// Answer the health check with 503 as well, so that load balancers take this host out
    #[arg(long)]
    pub drain: bool,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who does it, for the record [default: the user]
    #[arg(long, value_name = "WHO", env = "TRUEUP_BY", hide_env_values = true)]
    pub by: Option<String>,
}

/// Whether an app is to be in maintenance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

pub(in crate::cli) fn parse_time(text: &str) -> Result<Duration, String> {
    let read = text.parse::<Seconds>().map(|seconds| seconds.0);
    read.map_err(|invalid| format!("{}: {}", invalid.message, invalid.hint))
}
