//! How long a command waits for a running pass.

use std::time::Duration;

use clap::Args;

use crate::yaml::Seconds;

/// What to do while another pass is running.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// How long to wait for a running pass, such as `90s` or `15m`; 0 does not wait [default: 1h; 0 if started by a systemd timer]
    #[arg(long, value_name = "TIME", value_parser = parse_wait)]
    pub wait: Option<Duration>,
    /// Exit with 75 at once if another pass is running
    #[arg(long, conflicts_with = "wait")]
    pub no_wait: bool,
}

impl WaitArgs {
    /// How long to wait; `default` where no option says so. A pass of a timer does not wait: the timer starts
    /// the next one anyway.
    #[expect(
        clippy::disallowed_methods,
        reason = "cli reads the environment and passes values on"
    )]
    pub(in crate::cli) fn limit(&self, default: Duration) -> Duration {
        match (self.no_wait, self.wait) {
            (true, _) => Duration::ZERO,
            (false, Some(limit)) => limit,
            (false, None) if std::env::var_os("TRIGGER_UNIT").is_some() => Duration::ZERO,
            (false, None) => default,
        }
    }
}

fn parse_wait(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let read = text.parse::<Seconds>().map(|seconds| seconds.0);
    read.map_err(|invalid| format!("{}: {}", invalid.message, invalid.hint))
}
