//! Commands and options as typed.

mod act;
mod balancer;
mod complete;
mod demo;
mod eip;
mod init;
mod maintenance;
mod notify;
mod policy;
mod releases;
mod rollback;
mod rollout;
mod secret;
mod wait;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(super) use self::act::{HoldArgs, NoteArgs, NowArgs, PromoteArgs, PublisherArgs, UnholdArgs};
pub(super) use self::balancer::{
    BalancerArgs, BalancerCheckArgs, BalancerCommand, BalancerDrainArgs, BalancerStateArgs,
    BalancerUndrainArgs, StateArgument,
};
pub use self::complete::CompletionShell;
pub(super) use self::complete::{CompleteArgs, CompletionsArgs};
pub(super) use self::demo::{DemoAppArgs, DemoArgs};
pub(super) use self::eip::{EipArgs, EipClaimArgs, EipCommand, EipStatusArgs};
pub(super) use self::init::InitArgs;
pub(super) use self::maintenance::{MaintenanceArgs, Switch, parse_time};
pub(super) use self::notify::{NotifyArgs, NotifyCommand};
pub(super) use self::policy::{
    PolicyArgs, PolicyCommand, PolicyListArgs, PolicyPushArgs, PolicyShowArgs, PolicyTestArgs,
};
pub(super) use self::releases::{BuildArgs, CleanArgs, ListArgs, ReleasesArgs, ReleasesCommand};
pub(super) use self::rollback::{HistoryArgs, RollbackArgs};
pub(super) use self::rollout::{
    BreakSlotArgs, OnceArgs, QuarantineArgs, QuarantineCommand, QuarantineListArgs, RolloutActArgs,
    RolloutArgs, RolloutCommand, RolloutRestartArgs, RolloutStatusArgs, StepResult,
};
pub(super) use self::secret::{
    IdentityArgs, RekeyArgs, SecretArgs, SecretCommand, SecretEditArgs, SecretListArgs,
    SecretRemoveArgs, SecretSetArgs, SecretTargetArgs,
};
pub(super) use self::wait::WaitArgs;
use super::diff::DiffArgs;
use super::exec::ExecArgs;
use super::fleet::FleetArgs;
use super::logs::LogsArgs;
use super::output::OutputArgs;
use super::ps::PsArgs;
use super::publish::PublishArgs;
use super::roles::RolesArgs;

/// Keeps a host at the sha you asked for, and everything around that sha in the state you described.
#[derive(Debug, Parser)]
#[command(
    name = "trueup",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "New here? `trueup demo` shows the main job in a scratch folder, without root.\n\
                  On a host: `sudo trueup init` sets it up; from then on a timer starts the passes."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub global: GlobalArgs,
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct GlobalArgs {
    /// Settings of this node [default: /etc/trueup/node.yml, below --root if given]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Use a sandbox: every path of the host is below DIR, and root is not needed
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Where the shipped roles and templates are [default: /usr/share/trueup]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "TRUEUP_SHARE",
        hide = true
    )]
    pub share: Option<PathBuf>,
    #[command(flatten)]
    pub output: OutputArgs,
    /// Where and how to log [default: text at a terminal, the journal under systemd]
    #[arg(long, global = true, value_enum, value_name = "FORM")]
    pub log: Option<LogFormat>,
    /// Log more: -v for each step, with all that it prints; -vv for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Plain lines, on standard error
    Text,
    /// One JSON object per line, on standard error
    Json,
    /// The journal, with fields
    Journal,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Set up this host: write its settings, check store and git server, start the timer
    Init(Box<InitArgs>),
    /// Bring this host to the described state: one pass
    Converge(ConvergeArgs),
    /// Show what a pass would do, with diffs and the cause of each restart, and do nothing
    Plan(PlanArgs),
    /// Show the status of this host: wanted and running shas, drift, owed restarts, the last pass
    Status,
    /// Check what a pass relies on: store, clock, git, services, checks, disks, timer; each problem comes with a remedy
    #[command(
        after_help = "Exits with 0 if there is nothing to fix, else with 1. Changes nothing, except for one temporary object \
                      `doctor/…` in the store, which tests conditional writes (also concurrent ones) and is removed afterwards. \
                      It also asks sshd whether it reads the keys of users that roles describe. \
                      Some checks need root."
    )]
    Doctor,
    /// Show the passes that changed something, every stage of one release, or with ENV what was published there
    History(HistoryArgs),
    /// Show the releases of each app on this host, with quarantined shas and pins
    Releases(ReleasesArgs),
    /// Go back to an earlier release: on this host, or with ENV on all hosts of an environment
    Rollback(RollbackArgs),
    /// Run a command in the active release of an app, as its user and with its environment
    Exec(ExecArgs),
    /// Restart the services of an app, and wait until it serves
    Restart(RestartArgs),
    /// Put an app behind a maintenance page, or end that, without a reload; or show which apps are behind one
    Maintenance(MaintenanceArgs),
    /// Show what the services of an app print: the last lines, and on with --follow
    Logs(LogsArgs),
    /// Show the processes of an app: user, memory, CPU time, age, the release that they run from
    Ps(PsArgs),
    /// Try a channel through which rollouts notify people
    Notify(NotifyArgs),
    /// Check settings, roles and templates without touching the host
    Validate,
    /// Show the roles that this host can have, or what one of them lets you set
    Roles(RolesArgs),
    /// Show the facts of this host that templates can use
    Facts,
    /// Set the wanted sha of an app in the manifest that all hosts follow: a branch, a tag or a sha
    // The name that it has in other tools, which the help does not show.
    #[command(alias = "deploy")]
    Publish(Box<PublishArgs>),
    /// Show the commits and migrations between what hosts serve and what the manifest wants
    Diff(DiffArgs),
    /// Publish in one environment what another one serves, proven there
    Promote(PromoteArgs),
    /// Freeze apps of an environment at their sha, for a reason and a time
    Hold(HoldArgs),
    /// End the hold of apps
    Unhold(UnholdArgs),
    /// Show, add and tick off tasks for people that belong to the next deployment of an app
    Note(NoteArgs),
    /// Have all hosts of an environment make a pass now
    Now(NowArgs),
    /// Show each app on each node: wanted, actual, since when, last seen, and why it is not as wanted
    Fleet(FleetArgs),
    /// Show how a sha goes through the hosts of an environment, wait for its end, and intervene
    Rollout(RolloutArgs),
    /// Push, test and list the roles and templates of an environment as one signed bundle
    Policy(PolicyArgs),
    /// Set, edit, list and remove the secrets of an environment, and encrypt them to the keys of its hosts
    Secret(SecretArgs),
    /// Show which balancer has the address of a pair, and move it away before work on a host
    Balancer(BalancerArgs),
    /// Show which instance has an address of EC2 that moves, or claim it for this one
    Eip(EipArgs),
    /// Show the main job in a scratch folder, in seconds: no root, nothing else to install
    Demo(DemoArgs),
    /// Print the completions for a shell: commands, options, and the names that this host knows
    Completions(CompletionsArgs),
    /// The candidates for a word, which the scripts of `completions` ask for
    #[command(hide = true)]
    Complete(CompleteArgs),
    /// The web app of the demo
    #[command(hide = true)]
    DemoApp(DemoAppArgs),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Waits for a running pass and shows who started it; Ctrl-C ends the wait. A pass started by a timer does not \
                  wait: it exits with 75, and the timer starts it again. Only the timer spreads hosts over time: a pass \
                  started by hand begins at once, and retries a failed release at once.\n\n\
                  --force ignores caches, retry delays and holds, once and on this host only. It does not lift a \
                  quarantine (`--lift-quarantine REASON` does) or a rollback's pin (see `trueup rollback -h`)."
)]
pub struct ConvergeArgs {
    /// Ignore caches and retry delays, and override a hold of the manifest
    #[arg(long)]
    pub force: bool,
    /// Discard a failed or interrupted release and build it from scratch
    #[arg(long)]
    pub fresh: bool,
    /// Only the resource ID, and what its change restarts, reloads or runs
    #[arg(long, value_name = "ID")]
    pub only: Option<String>,
    /// Lift the quarantine of the wanted sha and try it again; records the user and REASON
    #[arg(long, value_name = "REASON")]
    pub lift_quarantine: Option<String>,
    #[command(flatten)]
    pub wait: WaitArgs,
    /// Accept the current node lists of the store, even if they shrank more than fleet.max_shrink allows
    #[arg(long)]
    pub accept_shrink: bool,
}

#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Only the resource ID, and what its change restarts, reloads or runs
    #[arg(long, value_name = "ID")]
    pub only: Option<String>,
    /// Show where the value of a parameter comes from, such as `apps.shop.port`
    #[arg(long, value_name = "KEY", conflicts_with_all = ["only"])]
    pub explain: Option<String>,
    /// Accept the current node lists of the store, even if they shrank more than fleet.max_shrink allows
    #[arg(long)]
    pub accept_shrink: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Restarts what a new release restarts, in the same order, and then waits until the processes run from the \
                  active release and the health check passes. Deploys and rolls back nothing; no later pass restarts \
                  it again. A service that a new release only reloads, such as a web server, is reloaded. \
                  Cron jobs go on: their next run is the new one. \
                  Leaves services alone that should not run, and those that an operator masked (exit code 3). A hold or \
                  a pin does not prevent a restart."
)]
pub struct RestartArgs {
    /// Which app
    #[arg(value_name = "APP")]
    pub app: String,
    /// Only this process, or this service as `trueup ps` shows it [default: all that run from the app]
    #[arg(long, value_name = "PROCESS")]
    pub process: Option<String>,
    #[command(flatten)]
    pub wait: WaitArgs,
}
