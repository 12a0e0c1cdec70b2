//! Options of `trueup notify`.

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub struct NotifyArgs {
    #[command(subcommand)]
    pub command: NotifyCommand,
}

#[derive(Debug, Subcommand)]
pub enum NotifyCommand {
    /// Send a test message through a channel of this host, and show what the other side answered
    #[command(
        after_help = "Channels are defined in node.yml, and the manifest names those that rollouts notify: see \
                      docs/notifications.md. Exits with 0 if the other side took the message, else with 1. \
                      `trueup doctor` checks all channels without sending anything."
    )]
    Test(NotifyTestArgs),
}

#[derive(Debug, Args)]
pub struct NotifyTestArgs {
    /// Which channel, as node.yml names it
    #[arg(value_name = "CHANNEL")]
    pub channel: String,
}
