//! Options of `trueup rollback` and `trueup history`, which are about this host or about an environment.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::act::PublisherArgs;
use super::maintenance::parse_time;
use super::wait::WaitArgs;
use crate::cli::repositories::RepositoryArgs;
use crate::cli::target::StoreArgs;

#[derive(Debug, Args)]
#[command(
    after_help = "`trueup history` is about this host, `trueup history ENV [APP]` about all hosts of an environment: who published, promoted, \
                  rolled back or held what, when and why. With signers, acts that none of them has signed are marked."
)]
pub struct HistoryArgs {
    /// Show what was published in this environment instead
    #[arg(value_name = "ENV", conflicts_with = "release")]
    pub env: Option<String>,
    /// Only what concerns this app
    #[arg(value_name = "APP")]
    pub of_app: Option<String>,
    /// How many to show
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    pub limit: usize,
    /// Show every stage of this release instead: result, duration, last lines of output
    #[arg(long, value_name = "RELEASE", conflicts_with = "limit")]
    pub release: Option<String>,
    /// The app of the release, if two apps have one of the same name
    #[arg(long, value_name = "APP", requires = "release")]
    pub app: Option<String>,
    /// The keys that may sign, as `allowed_signers` of ssh-keygen(1) [default: the settings' own]
    #[arg(
        long,
        value_name = "FILE",
        env = "TRUEUP_SIGNERS",
        hide_env_values = true,
        requires = "env"
    )]
    pub signers: Option<PathBuf>,
    #[command(flatten)]
    pub at: StoreArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "`trueup rollback APP` is about this host, at once: restarts the services and runs the health check. It pins the release: \
                  passes exit with 3 (waiting) and show who pinned it and why, until the manifest wants another sha or \
                  `--unpin`.\n\n\
                  `trueup rollback ENV APP` takes all hosts of an environment back, by their rollout, to the last sha before that hosts \
                  served. It asks first, and holds the app there for 24 hours, so that the next automatic publish does not bring \
                  the bad sha back.\n\n\
                  `trueup rollback ENV --policy` takes the policy bundle back.\n\n\
                  Neither ever migrates the database down; both list migrations that differ."
)]
pub struct RollbackArgs {
    /// Which app; or the environment, if APP or --policy follows
    #[arg(value_name = "[ENV] APP")]
    pub first: String,
    /// Which app of the environment
    #[arg(value_name = "APP", hide = true)]
    pub second: Option<String>,
    /// With ENV and no APP: the policy bundle instead of an app, to the one before or to that of --to
    #[arg(long, conflicts_with = "second")]
    pub policy: bool,
    /// To this release, as `trueup releases` shows it, or with ENV to this sha [default: the last good one before]
    #[arg(long, value_name = "RELEASE|SHA")]
    pub to: Option<String>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// With ENV: how long to hold the app there [default: 24h]
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time, conflicts_with = "no_hold", requires = "second")]
    pub time: Option<Duration>,
    /// With ENV: do not hold the app
    #[arg(long, requires = "second")]
    pub no_hold: bool,
    /// Override a hold of the manifest
    #[arg(long)]
    pub force: bool,
    /// End the pin, and deploy the sha that the manifest wants
    #[arg(long, conflicts_with_all = ["to", "reason", "force"])]
    pub unpin: bool,
    #[command(flatten)]
    pub repositories: RepositoryArgs,
    #[command(flatten)]
    pub publisher: PublisherArgs,
    #[command(flatten)]
    pub wait: WaitArgs,
}
