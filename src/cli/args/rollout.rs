//! The options of `trueup rollout`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::act::PublisherArgs;
use super::maintenance::parse_time;
use super::{HistoryArgs, RollbackArgs};
use crate::cli::target::StoreArgs;

#[derive(Debug, Args)]
pub struct RolloutArgs {
    #[command(subcommand)]
    pub command: RolloutCommand,
}

#[derive(Debug, Subcommand)]
pub enum RolloutCommand {
    /// Show how far the wanted sha of an app has come, who is out of service, and what everybody waits for
    Status(RolloutStatusArgs),
    /// Restart the services of an app on all its hosts, by the slots of the rollout
    Restart(RolloutRestartArgs),
    /// Let a halted rollout go on, once its environment works again
    Resume(RolloutActArgs),
    /// Let all hosts go on without waiting for the canaries
    SkipCanary(RolloutActArgs),
    /// Let the hosts go on without waiting for the apps of `after`
    SkipAfter(RolloutActArgs),
    /// Free the slot of a host that does not come back
    BreakSlot(BreakSlotArgs),
    /// End the rollout without waiting for a host
    Ignore(IgnoreArgs),
    /// Say how a step ended that one host runs for all, such as a migration whose host was killed, or let it run again
    Once(OnceArgs),
    /// Follow a manifest that is older than the rollouts, after a bucket was restored
    Reset(RolloutActArgs),
    /// Show or lift the quarantine of shas in an environment
    Quarantine(QuarantineArgs),
    /// As `trueup rollback ENV APP`, by the name that kubectl has for it
    #[command(hide = true)]
    Undo(Box<RollbackArgs>),
    /// As `trueup history ENV APP`, by the name that kubectl has for it
    #[command(hide = true)]
    History(Box<HistoryArgs>),
}

#[derive(Debug, Args)]
#[command(
    after_help = "The exit code: 0 done, 1 halted, without progress for its `progress_deadline`, or a host cannot take the sha (its \
                  build fails, say) and no other one is at work, 2 in progress, 3 held, 4 quarantined, 5 the store did not answer; \
                  with `--wait` also 124 timed out. `--wait` ends as soon as nothing more happens by itself; hosts that failed for \
                  reasons of their own have a minute to try again."
)]
pub struct RolloutStatusArgs {
    /// The environment
    #[arg(value_name = "ENV")]
    pub env: String,
    /// The app; `_haproxy` or `_keepalived`: who restarts or reloads that
    #[arg(value_name = "APP")]
    pub app: String,
    /// Wait until the rollout is done or cannot go on, and print a line for each step
    #[arg(long)]
    pub wait: bool,
    /// How long to wait at most, such as `20m` [default: as long as it takes]
    #[arg(long, value_name = "TIME", requires = "wait", value_parser = parse_time)]
    pub timeout: Option<Duration>,
    /// Repeat every so many seconds, until interrupted
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "5", conflicts_with = "wait", value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub watch: Option<u16>,
    #[command(flatten)]
    pub at: StoreArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Writes the request into the manifest, where hosts find it with their next pass; it needs the permission to publish. Each \
                  host asks for a slot, drains where that is configured, restarts the services that a new release restarts, and proves them. One that does not \
                  serve afterwards keeps its slot. For one host there is `trueup restart`."
)]
pub struct RolloutRestartArgs {
    /// The environment
    #[arg(value_name = "ENV")]
    pub env: String,
    /// The app
    #[arg(value_name = "APP")]
    pub app: String,
    /// Why, for the history of the rollouts
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    #[command(flatten)]
    pub publisher: PublisherArgs,
}

/// The app that an operator intervenes in, and why.
#[derive(Debug, Args)]
pub struct RolloutActArgs {
    /// The environment
    #[arg(value_name = "ENV")]
    pub env: String,
    /// The app; `break-slot` and `reset` also take `_haproxy` and `_keepalived`
    #[arg(value_name = "APP")]
    pub app: String,
    /// Why, for the history of the rollout
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Sign the record of it with this key: a private key, or the public half of one that ssh-agent has
    #[arg(long, value_name = "KEY", env = "TRUEUP_SIGN", hide_env_values = true)]
    pub sign: Option<PathBuf>,
    /// Which sha, if the manifest wants several [default: the first that it wants]
    #[arg(long, value_name = "SHA")]
    pub sha: Option<String>,
    #[command(flatten)]
    pub at: StoreArgs,
}

#[derive(Debug, Args)]
pub struct BreakSlotArgs {
    #[command(flatten)]
    pub act: RolloutActArgs,
    /// The number of the slot, as `rollout status` shows it
    #[arg(value_name = "N", default_value_t = 0)]
    pub slot: u32,
    /// Break it even if its holder was heard of lately
    #[arg(long)]
    pub yes: bool,
    /// How the step ended that the holder runs for all, if it runs one
    #[arg(long, value_enum, value_name = "RESULT")]
    pub step: Option<StepResult>,
}

#[derive(Debug, Args)]
pub struct IgnoreArgs {
    #[command(flatten)]
    pub act: RolloutActArgs,
    /// The node that the rollout does not wait for
    #[arg(value_name = "NODE")]
    pub node: String,
}

#[derive(Debug, Args)]
pub struct OnceArgs {
    #[command(flatten)]
    pub act: RolloutActArgs,
    /// The step
    #[arg(value_name = "STEP")]
    pub step: String,
    /// How it ended, or `retry`
    #[arg(long, value_enum, value_name = "RESULT")]
    pub resolve: StepResult,
}

/// How a step ended that one host runs for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StepResult {
    /// It succeeded, and is not run again
    Done,
    /// It failed, and the rollout stays halted
    Failed,
    /// A host runs it again
    Retry,
}

#[derive(Debug, Args)]
pub struct QuarantineArgs {
    #[command(subcommand)]
    pub command: QuarantineCommand,
}

#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// Show the shas that no host of the environment activates, with the reason
    List(QuarantineListArgs),
    /// Let the hosts try a sha again
    Lift(RolloutActArgs),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Ends with 5 if an object cannot be used, which it names: hosts wait for that sha as well, until the object is restored \
                  or removed."
)]
pub struct QuarantineListArgs {
    /// The environment
    #[arg(value_name = "ENV")]
    pub env: String,
    /// Only this app
    #[arg(value_name = "APP")]
    pub app: Option<String>,
    #[command(flatten)]
    pub at: StoreArgs,
}
