//! Options of `trueup eip`.

use std::net::Ipv4Addr;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::maintenance::parse_time;
use crate::balancer::claim::MovingAddress;
use crate::balancer::state::is_instance_name;

#[derive(Debug, Args)]
#[command(
    after_help = "ADDRESS is the allocation of an elastic IP (`eipalloc-…`), or a private address of the subnet that moves \
                  between instances as a secondary address. Credentials are those of the store: the environment, root's \
                  ~/.aws, or the role of this instance. docs/balancers.md has the policy that the role needs."
)]
pub struct EipArgs {
    #[command(subcommand)]
    pub command: EipCommand,
}

#[derive(Debug, Subcommand)]
pub enum EipCommand {
    /// Give an address to this instance, and wait until EC2 confirms it
    Claim(EipClaimArgs),
    /// Show which instance has an address
    Status(EipStatusArgs),
}

#[derive(Debug, Args)]
#[command(
    after_help = "For `notify_master` of keepalived: `trueup eip claim eipalloc-… --instance NAME`. Takes the address from any \
                  other instance. If it is here already, nothing is changed. A slow or throttling EC2 is asked again until \
                  --timeout.\n\n\
                  EC2 is changed at most once: if another host claims the address later, it keeps it, so that two hosts \
                  that both believe to be the master do not fight.\n\n\
                  Exits with 0 if the address is here, with 124 if EC2 did not confirm it within --timeout, else with 1: \
                  EC2 refused, or this host is the master no longer."
)]
pub struct EipClaimArgs {
    /// An elastic IP or a private address
    #[arg(value_name = "ADDRESS", value_parser = parse_address)]
    pub(crate) address: MovingAddress,
    /// Record that keepalived's instance NAME is the master here, and give up when it is not any more
    #[arg(long, value_name = "NAME", value_parser = parse_instance)]
    pub instance: Option<String>,
    /// Which private address of this instance an elastic IP goes to [default: its primary one]
    #[arg(long, value_name = "IP")]
    pub private_address: Option<Ipv4Addr>,
    /// How long to try at most
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_time)]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
#[command(after_help = "Exits with 1 if no instance has an address.")]
pub struct EipStatusArgs {
    /// An elastic IP or a private address [default: those that keepalived of this host claims]
    #[arg(value_name = "ADDRESS", value_parser = parse_address)]
    pub(crate) address: Option<MovingAddress>,
}

fn parse_address(text: &str) -> Result<MovingAddress, String> {
    text.parse()
        .map_err(|error: crate::balancer::claim::InvalidAddress| error.to_string())
}

fn parse_instance(text: &str) -> Result<String, String> {
    match is_instance_name(text) {
        true => Ok(text.to_owned()),
        false => Err("expected a name of letters, digits, `-`, `_` or `.`".to_owned()),
    }
}
