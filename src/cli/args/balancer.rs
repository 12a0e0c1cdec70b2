//! The options of `trueup balancer`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::maintenance::parse_time;

#[derive(Debug, Args)]
pub struct BalancerArgs {
    #[command(subcommand)]
    pub command: BalancerCommand,
}

#[derive(Debug, Subcommand)]
pub enum BalancerCommand {
    /// Show who has the address, whether haproxy serves, and whether this balancer is drained
    Status,
    /// Move the address to another balancer, and keep it away from this one until `undrain`
    Drain(BalancerDrainArgs),
    /// Let this balancer have the address again
    Undrain(BalancerUndrainArgs),
    /// Say whether this host may have the address: what keepalived asks every second
    Check(BalancerCheckArgs),
    /// Record what keepalived decided
    #[command(hide = true)]
    State(BalancerStateArgs),
}

#[derive(Debug, Args)]
#[command(
    after_help = "From then on the check of keepalived fails here: another balancer takes the address within a second or two, \
                  and haproxy can be stopped or upgraded without a failed request. Waits until the address is gone from here \
                  and answers elsewhere. Holds over a reboot. Again, it changes nothing and waits likewise.\n\n\
                  Refuses if no other balancer answers. Exits with 124 if the address has not moved in time, and lets this \
                  balancer have it again, as when it is stopped."
)]
pub struct BalancerDrainArgs {
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who does it, for the record [default: the user]
    #[arg(long, value_name = "WHO", env = "TRUEUP_BY", hide_env_values = true)]
    pub by: Option<String>,
    /// Drain it although no other balancer answers: then nobody has the address
    #[arg(long)]
    pub force: bool,
    /// How long to wait at most
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = parse_time)]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Waits until the check of keepalived passes here again. The address stays where it is, unless the role says \
                  `preempt: true` or the balancers share several. Exits with 124 if the check does not pass in time."
)]
pub struct BalancerUndrainArgs {
    /// How long to wait at most
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_time)]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Exits with 0 if haproxy says that its frontends are up, a request gets any answer, and no operator has drained \
                  this balancer; else with 1 and the reason. Takes less than two seconds, and needs no settings."
)]
pub struct BalancerCheckArgs {
    /// A socket of haproxy, of `level user` or more
    #[arg(long, value_name = "PATH", default_value = "/run/haproxy/check.sock")]
    pub socket: PathBuf,
    /// A URL that haproxy answers on this host
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:80/trueup-balancer-check"
    )]
    pub url: String,
}

#[derive(Debug, Args)]
pub struct BalancerStateArgs {
    #[arg(value_name = "INSTANCE")]
    pub instance: String,
    #[arg(value_enum, value_name = "STATE")]
    pub state: StateArgument,
}

/// A state of keepalived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StateArgument {
    Master,
    Backup,
    Fault,
    Stop,
}
