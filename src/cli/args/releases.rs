//! Options of `trueup releases`.

use clap::{Args, Subcommand};

use super::wait::WaitArgs;

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
    /// Show all releases with state, sha, age, size on disk, requester and failure
    List(ListArgs),
    /// Build a private release without activating it, and print its path
    Build(BuildArgs),
    /// Activate an existing release now, and stay at it until the manifest wants another sha
    Activate(ActivateArgs),
    /// Remove releases that are not needed: surplus, failed, bad, expired private and abandoned ones
    Clean(CleanArgs),
}

#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("commit").required(true),
    after_help = "Only the path goes to standard output: `cd $(trueup releases build shop --ref main)`.\n\
                  The release is private: no pass activates it, and the database is not migrated.\n\
                  Building it again keeps it for longer; a failed build resumes at the step that failed."
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
    /// How many days to keep it
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=3650))]
    pub keep_days: u16,
    /// Who builds it, for the record [default: the user]
    #[arg(long, value_name = "WHO", env = "TRUEUP_BY", hide_env_values = true)]
    pub by: Option<String>,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Activation works as in every pass: switch, restart, health check, rollback on failure. It pins the release, \
                  as a rollback does: passes exit with 3 (waiting) and show who pinned it and why, until the manifest wants \
                  another sha or an operator ends the pin (see `trueup rollback -h`)."
)]
pub struct ActivateArgs {
    /// Which app
    #[arg(value_name = "APP")]
    pub app: String,
    /// Which release, as `trueup releases` shows it
    #[arg(value_name = "RELEASE")]
    pub release: String,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who does it, for the record [default: the user]
    #[arg(long, value_name = "WHO", env = "TRUEUP_BY", hide_env_values = true)]
    pub by: Option<String>,
    /// Override a hold of the manifest
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Never removes the active release, the good one before it, one that is on trial, pinned or wanted next, a \
                  private one before it expires, or one that a process runs in."
)]
pub struct CleanArgs {
    /// Only this app [default: all of this host]
    #[arg(long, value_name = "APP")]
    pub app: Option<String>,
    /// Also remove the latest failed and the latest bad release, which are kept for inspection
    #[arg(long)]
    pub all_failed: bool,
    /// Only show what would be removed
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
