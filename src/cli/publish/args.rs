//! The options of `trueup publish`.

use std::time::Duration;

use clap::Args;

use crate::cli::args::{PublisherArgs, parse_time};
use crate::cli::repositories::RepositoryArgs;

#[derive(Debug, Args)]
#[command(
    after_help = "A branch, a tag or the beginning of a sha is looked up in the repository of the app, by this user's `git` with its \
                  configuration, keys and credential helpers, and published as the full sha. `_settings: {repositories: {APP: URL}}` \
                  of the environment names the repository, or `{url: URL, allow_refs: [refs/heads/main]}`, or --repo does. A sha that \
                  no allowed ref has is refused, as by hosts; in a clone the branches of its remote count, and tags. A full sha of an app whose repository nobody names is taken with a \
                  warning.\n\n\
                  Shows the diff of the manifest, the commits that each app gets or loses, the migrations that differ, and what hosts \
                  will do. With `--wait`, the exit code is the worst of the rollouts (see `trueup rollout status -h`).\n\n\
                  Keeps the comments and layout of the manifest, and increments its generation. Of two concurrent publishers \
                  neither loses its change. Publishing a sha that is already set writes nothing.\n\n\
                  `--hold` freezes the apps at the shas that it publishes, for example after a rollback: hosts take these, and what is \
                  published later waits until the hold ends, by the store's clock, or `--lift-hold` ends it.\n\n\
                  The sha before becomes `previous`, unless it is quarantined, no host ever served it, or the published sha is \
                  `previous` itself: a way back. An app whose rollout policy no host could follow is refused: an `after` that \
                  names no app or goes in a circle, a canary whose tags no host has."
)]
pub struct PublishArgs {
    /// Which environment of the manifest
    #[arg(value_name = "ENV")]
    pub environment: String,
    /// An app and its sha, branch or tag; several are written at once. With --via-ci the name of the app is enough
    #[arg(value_name = "APP=SHA|REF", required_unless_present = "above_fleet")]
    pub apps: Vec<String>,
    #[command(flatten)]
    pub repositories: RepositoryArgs,
    /// Take who, which commit and which ref from the variables of CI: GitHub Actions, GitLab CI, Jenkins, CircleCI, Buildkite, or TRUEUP_SHA and TRUEUP_REF. Refuses jobs of pull requests, and to publish over a commit that another job published meanwhile, unless this one contains it
    #[arg(long)]
    pub via_ci: bool,
    /// Show the diff, the commits and what hosts will do, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Build the shas ahead on all hosts, and activate nothing
    #[arg(long, requires = "apps", conflicts_with_all = ["hold", "lift_hold", "wait"])]
    pub next: bool,
    /// Wait until the rollout of each app is done or cannot go on, and print a line for each step
    #[arg(long, requires = "apps", conflicts_with = "dry_run")]
    pub wait: bool,
    /// How long to wait at most, such as `20m` [default: as long as it takes]
    #[arg(long, value_name = "TIME", requires = "wait", value_parser = parse_time)]
    pub timeout: Option<Duration>,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Source of the sha, such as a branch, for the record; with one app only [default: the branch or tag that was looked up]
    #[arg(long = "ref", value_name = "NAME")]
    pub reference: Option<String>,
    /// Take full shas without asking their repositories, such as while these do not answer
    #[arg(long)]
    pub unchecked: bool,
    /// Allow a new environment, app or manifest
    #[arg(long)]
    pub create: bool,
    /// Freeze the apps at the published shas, for this reason: hosts take these, and no later one
    #[arg(
        long,
        value_name = "REASON",
        conflicts_with = "lift_hold",
        requires = "apps"
    )]
    pub hold: Option<String>,
    /// When the hold ends: a time such as `2026-11-29T18:00:00Z`, or the end of a day in UTC [default: when it is lifted]
    #[arg(long, value_name = "TIME", requires = "hold")]
    pub until: Option<String>,
    /// End the hold of the apps
    #[arg(long, requires = "apps")]
    pub lift_hold: bool,
    /// Set the generation above those that the hosts report as applied, instead of incrementing it: for a manifest
    /// whose generation hosts refuse
    #[arg(long)]
    pub above_fleet: bool,
    #[command(flatten)]
    pub publisher: PublisherArgs,
}
