//! Options of commands that change the manifest for all hosts of an environment.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::maintenance::parse_time;
use crate::cli::target::StoreArgs;

/// Options of every command that changes the manifest.
#[derive(Debug, Args)]
pub struct ActArgs {
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    #[command(flatten)]
    pub publisher: PublisherArgs,
}

/// Who changes the manifest, and how it is signed.
#[derive(Debug, Args)]
pub struct PublisherArgs {
    /// Who does it, for the record [default: the user]
    #[arg(long, value_name = "WHO", env = "TRUEUP_BY", hide_env_values = true)]
    pub by: Option<String>,
    /// Sign the environment with this key: a private key, or the public half of one that ssh-agent has
    #[arg(long, value_name = "KEY", env = "TRUEUP_SIGN", hide_env_values = true)]
    pub sign: Option<PathBuf>,
    /// The keys of other publishers, as `allowed_signers` of ssh-keygen(1): with --sign, one of them has to have signed
    /// what the manifest says now [default: the settings' own]
    #[arg(
        long,
        value_name = "FILE",
        env = "TRUEUP_SIGNERS",
        hide_env_values = true
    )]
    pub signers: Option<PathBuf>,
    /// Sign what the manifest says now of the environment, whoever wrote it: read it first
    #[arg(long, requires = "sign")]
    pub trust_current: bool,
    /// Do not ask before changing a protected environment
    #[arg(short, long)]
    pub yes: bool,
    #[command(flatten)]
    pub at: StoreArgs,
}

#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("end").required(true),
    after_help = "Hosts stay at the sha that the app is at now, or go on to it; what is published later waits until the hold ends, \
                  by the store's clock. CI (`--via-ci`) is refused to publish into a hold. `trueup unhold` ends it early."
)]
pub struct HoldArgs {
    /// The environment
    #[arg(value_name = "ENV")]
    pub env: String,
    /// The apps
    #[arg(value_name = "APP", required = true)]
    pub apps: Vec<String>,
    /// Why, for everybody who meets the hold
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// End after this time, such as `2h` or `3d`
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time, group = "end")]
    pub time: Option<Duration>,
    /// End at this time, such as `2026-11-29T18:00:00Z`, or at the end of a day in UTC
    #[arg(long, value_name = "TIME", group = "end")]
    pub until: Option<String>,
    #[command(flatten)]
    pub publisher: PublisherArgs,
}

#[derive(Debug, Args)]
pub struct UnholdArgs {
    /// The environment
    #[arg(value_name = "ENV")]
    pub env: String,
    /// The apps
    #[arg(value_name = "APP", required = true)]
    pub apps: Vec<String>,
    #[command(flatten)]
    pub act: ActArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A note is a task for people that belongs to the next deployment, such as \"run the reindex\". `publish`, `rollout \
                  status` and notifications show it until it is ticked off with `--done`. Without TEXT and `--done`, shows the notes."
)]
pub struct NoteArgs {
    /// The environment
    #[arg(value_name = "ENV")]
    pub env: String,
    /// The app [default: show the notes of all]
    #[arg(value_name = "APP")]
    pub app: Option<String>,
    /// The task
    #[arg(value_name = "TEXT", conflicts_with = "done")]
    pub text: Option<String>,
    /// Tick off the note with this number
    #[arg(long, value_name = "N", requires = "app")]
    pub done: Option<u32>,
    #[command(flatten)]
    pub publisher: PublisherArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Publishes in TO what all live hosts of FROM serve, proven there, which may be older than what FROM wants. An app that \
                  FROM's hosts serve at different shas is refused: `trueup rollout status FROM APP --wait` waits for the end of its \
                  rollout. Several apps are published at once, in the order of their `after`."
)]
pub struct PromoteArgs {
    /// The environment to take the shas from
    #[arg(value_name = "FROM")]
    pub from: String,
    /// The environment to publish them in
    #[arg(value_name = "TO")]
    pub to: String,
    /// Which apps [default: all that both have]
    #[arg(value_name = "APP")]
    pub apps: Vec<String>,
    /// Take who from the variables of CI, as `trueup publish` does, and refuse to publish into a hold
    #[arg(long)]
    pub via_ci: bool,
    /// Allow an app that is new in TO, or a new environment
    #[arg(long)]
    pub create: bool,
    /// Show what would be published, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub act: ActArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Every host makes a pass at its next tick, within half a minute, past its caches and retry delays: a failed release is \
                  tried again at once. Nothing else changes: holds, quarantines and pins stay. With `--via ssh`, this machine logs in \
                  to each host by its name instead, all at once, runs `sudo trueup converge` there and shows what it prints."
)]
pub struct NowArgs {
    /// The environment
    #[arg(value_name = "ENV")]
    pub env: String,
    /// Only the hosts of this app, with `--via ssh`
    #[arg(long, value_name = "APP", requires = "via")]
    pub app: Option<String>,
    /// Log in to each host instead of waiting for its tick
    #[arg(long, value_enum, value_name = "HOW")]
    pub via: Option<Via>,
    #[command(flatten)]
    pub act: ActArgs,
}

/// How hosts are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Via {
    /// `ssh HOST sudo trueup converge`, with the settings of ssh_config(5)
    Ssh,
}
