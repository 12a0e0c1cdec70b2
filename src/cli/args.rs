//! Commands and options as typed.

mod init;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::init::InitArgs;
use super::exec::ExecArgs;
use super::fleet::FleetArgs;
use super::output::OutputArgs;
use super::publish::PublishArgs;

/// Keeps a host at the sha you asked for, and everything around that sha in the state you described.
#[derive(Debug, Parser)]
#[command(
    name = "trueup",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "New here? `trueup demo` shows the main job in a scratch folder, without root.\n\
                  On a host: `sudo trueup init` sets it up; from then on a timer makes the passes."
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
    /// Settings of this node [default: /etc/trueup/node.yml, below --root if that is given]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A sandbox: every path of the host is below DIR, and no root is needed
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
    /// Log more: -v for each step, -vv for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people, on standard error
    Text,
    /// One JSON object per line, on standard error
    Json,
    /// The journal, with fields
    Journal,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Set this host up: say what it is, look whether store and git server let it in, start the timer
    Init(Box<InitArgs>),
    /// Bring this host to the described state: one pass
    Converge(ConvergeArgs),
    /// Show what a pass would do, with diffs and the cause of each restart, and do nothing
    Plan(PlanArgs),
    /// Show how this host stands: wanted and running shas, drift, owed restarts, the last pass
    Status,
    /// Look for what can be wrong round a pass: store, clock, git, services, checks, disks, timer; each line is fine or says what to do
    #[command(
        after_help = "Ends with 0 when there is nothing to mend, else with 1. Nothing is changed, but for one throw-away object `doctor/…` in the\n\
                      store: it shows whether conditional writes are kept there, also when several write at once, and is removed again.\n\
                      Some lines need root."
    )]
    Doctor,
    /// Show the passes that did something, or all that one release went through
    History(HistoryArgs),
    /// Show what there is of each app on this host: its releases, quarantined shas, a pin
    Releases(ReleasesArgs),
    /// Go back to an earlier release on this host, and stay there until the manifest wants another sha
    Rollback(RollbackArgs),
    /// Run a command in the active release of an app, as its user and with its environment
    Exec(ExecArgs),
    /// Check settings, roles and templates without touching the host
    Validate,
    /// Show what templates can see of this host
    Facts,
    /// Say which sha an app should be at, in the manifest that all hosts follow
    Publish(PublishArgs),
    /// Show each app on each node: wanted, actual, since when, last seen, and why it is not as wanted
    Fleet(FleetArgs),
    /// Show the main job in a scratch folder: nothing else installed, no root, some seconds
    Demo(DemoArgs),
    /// The web app of the demo
    #[command(hide = true)]
    DemoApp(DemoAppArgs),
}

/// What to do while another pass is running.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// How long to wait for a pass that is running, as in `90s` or `15m`; 0 does not wait [default: 1h; 0 when a timer of systemd starts it]
    #[arg(long, value_name = "TIME", value_parser = parse_wait)]
    pub wait: Option<Duration>,
    /// End with 75 at once when another pass is running
    #[arg(long, conflicts_with = "wait")]
    pub no_wait: bool,
}

impl WaitArgs {
    /// How long to wait; `usual` where nothing is said. What a timer starts comes again by itself:
    /// it never queues up behind an operator.
    pub(super) fn limit(&self, default: Duration) -> Duration {
        match (self.no_wait, self.wait) {
            (true, _) => Duration::ZERO,
            (false, Some(said)) => said,
            (false, None) if std::env::var_os("TRIGGER_UNIT").is_some() => Duration::ZERO,
            (false, None) => default,
        }
    }
}

fn parse_wait(text: &str) -> Result<Duration, String> {
    use crate::resource::Seconds;
    use serde::de::value::{Error, StrDeserializer};
    use serde::{Deserialize, de::IntoDeserializer};

    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let deserializer: StrDeserializer<'_, Error> = text.into_deserializer();
    let read = Seconds::deserialize(deserializer).map(|seconds| seconds.0);
    read.map_err(|error| error.to_string().replace(" | ", ": "))
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Leave it running and the folder in place, to play with
    #[arg(long)]
    pub keep: bool,
    /// The folder to use; it must be new or empty [default: one in the temporary folder]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// End a demo that was kept, and remove its folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["keep", "dir"])]
    pub stop: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct DemoAppArgs {
    #[arg(long)]
    pub port: u16,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A pass that is running is waited for, and who runs it is told; Ctrl-C ends the wait. What a timer starts does not queue up:\n\
                  it ends with 75 and comes again by itself. By hand nothing is put off: only the timer spreads hosts over time.\n\n\
                  --force goes over caches, pauses after failures and holds, on this host and once. It never goes over a\n\
                  quarantine (`--lift-quarantine REASON` does) nor over a rollback's pin (see `trueup rollback -h`)."
)]
pub struct ConvergeArgs {
    /// Fetch everything anew instead of trusting what is cached, try what failed before at once, and go over a hold of the manifest
    #[arg(long)]
    pub force: bool,
    /// Build a release that failed or was interrupted anew, instead of going on where it stopped
    #[arg(long)]
    pub fresh: bool,
    /// Only the resource ID, and what is restarted or run when it changes
    #[arg(long, value_name = "ID")]
    pub only: Option<String>,
    /// Try once more what is wanted and failed in service here, and keep who said so and why
    #[arg(long, value_name = "REASON")]
    pub lift_quarantine: Option<String>,
    #[command(flatten)]
    pub wait: WaitArgs,
    /// Take the lists of nodes as the store has them now, however much smaller than before
    #[arg(long)]
    pub accept_shrink: bool,
}

#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Only the resource ID, and what is restarted or run when it changes
    #[arg(long, value_name = "ID")]
    pub only: Option<String>,
    /// Say where the value of a parameter comes from, such as `apps.shop.port`
    #[arg(long, value_name = "KEY", conflicts_with_all = ["only"])]
    pub explain: Option<String>,
    /// Take the lists of nodes as the store has them now, however much smaller than before
    #[arg(long)]
    pub accept_shrink: bool,
}

#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// How many passes to show
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    pub limit: usize,
    /// Show every stage of this release instead: how it ended, how long it took, what it printed last
    #[arg(long, value_name = "RELEASE", conflicts_with = "limit")]
    pub release: Option<String>,
    /// Whose release it is, where two apps have one of the same name
    #[arg(long, value_name = "APP", requires = "release")]
    pub app: Option<String>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ReleasesArgs {
    #[command(subcommand)]
    pub command: Option<ReleasesCommand>,
    #[command(flatten)]
    pub list: ListArgs,
}

#[derive(Debug, Subcommand)]
pub enum ReleasesCommand {
    /// Show all releases with state, sha, age, size on disk, who asked for them and why they failed
    List(ListArgs),
    /// Build a release for yourself, up to the point of activating it, and print its path
    Build(BuildArgs),
    /// Put a release that is there into service now, and stay with it until the manifest wants another sha
    Activate(ActivateArgs),
    /// Remove what is needed no more now: surplus, failed, bad, expired private and abandoned releases
    Clean(CleanArgs),
}

#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("commit").required(true),
    after_help = "Only the path goes to standard output: `cd $(trueup releases build shop --ref main)`.\n\
                  The release is private: nothing activates it by itself, and the database is not migrated.\n\
                  Built again it is kept for longer; one that failed goes on at the step that failed."
)]
pub struct BuildArgs {
    /// Which app
    #[arg(value_name = "APP")]
    pub app: String,
    /// The full sha to build
    #[arg(long, value_name = "SHA", group = "commit")]
    pub sha: Option<String>,
    /// The branch or tag to build, as it is on the server now
    #[arg(long = "ref", value_name = "NAME", group = "commit")]
    pub reference: Option<String>,
    /// How many days it is kept
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=3650))]
    pub keep_days: u16,
    /// Who builds it, for people [default: the user]
    #[arg(long, value_name = "WHO", env = "TRUEUP_BY", hide_env_values = true)]
    pub by: Option<String>,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "It goes the way of every pass: switch, restart, health check, and back if it fails. The release is pinned like one\n\
                  that was rolled back to: passes end with 3 (waiting) and say by whom and why, until the manifest wants another\n\
                  sha or somebody ends the pin (see `trueup rollback -h`)."
)]
pub struct ActivateArgs {
    /// Which app
    #[arg(value_name = "APP")]
    pub app: String,
    /// Which release, as `trueup releases` names it
    #[arg(value_name = "RELEASE")]
    pub release: String,
    /// Why, for people
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who does it, for people [default: the user]
    #[arg(long, value_name = "WHO", env = "TRUEUP_BY", hide_env_values = true)]
    pub by: Option<String>,
    /// Also while the manifest holds the app where it is
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Only this host, and at once: services are restarted, and the health check proves it. The release is pinned: passes\n\
                  end with 3 (waiting) and say by whom and why, until the manifest wants another sha or `--unpin`.\n\
                  The database is not migrated down: where migrations differ, they are listed."
)]
pub struct RollbackArgs {
    /// Which app
    #[arg(value_name = "APP")]
    pub app: String,
    /// To this release, as `trueup releases` names it [default: the good one that was active before]
    #[arg(long, value_name = "RELEASE")]
    pub to: Option<String>,
    /// Why, for people
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who does it, for people [default: the user]
    #[arg(long, value_name = "WHO", env = "TRUEUP_BY", hide_env_values = true)]
    pub by: Option<String>,
    /// Also while the manifest holds the app where it is
    #[arg(long)]
    pub force: bool,
    /// End the pin, and go to what the manifest wants
    #[arg(long, conflicts_with_all = ["to", "reason", "force"])]
    pub unpin: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Never removed: the active release, the good one before it, what is on trial or pinned, what is wanted next, a private one\n\
                  within its days, and any that a process runs in."
)]
pub struct CleanArgs {
    /// Only this app [default: all of this host]
    #[arg(long, value_name = "APP")]
    pub app: Option<String>,
    /// Also the latest failed and the latest bad one, which are kept to be looked at
    #[arg(long)]
    pub all_failed: bool,
    /// Only say what would be removed
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only this app [default: all of this host]
    #[arg(long, value_name = "APP")]
    pub app: Option<String>,
}
