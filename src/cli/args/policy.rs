//! The options of `trueup policy`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::act::ActArgs;
use crate::cli::target::StoreArgs;

#[derive(Debug, Args)]
pub struct PolicyArgs {
    #[command(subcommand)]
    pub command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Pack the roles, templates and environments of a folder, and have the hosts take them
    Push(Box<PolicyPushArgs>),
    /// Show what the roles, templates and environments of a folder would change on given hosts; touches nothing
    Test(PolicyTestArgs),
    /// Show the bundles in the store, and which one the manifest names
    List(PolicyListArgs),
    /// Show the files of a bundle, or one of them
    Show(PolicyShowArgs),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Packs `roles/`, `templates/` and `environments/` of DIR, writes the bundle into the store under its digest, and names it \
                  in the manifest, so that it is signed and ordered with it. Only hosts with `signers` take it: sign with --sign. \
                  Roles and templates are checked before; hidden files and links are refused. Equal files write nothing.\n\n\
                  Hosts take it in a rollout of its own, by the rollout policy of the environment: `trueup rollout status ENV _policy`. \
                  A host on which it fails goes back to the bundle before, and the rollout stops. `trueup rollback ENV --policy` goes back \
                  everywhere."
)]
pub struct PolicyPushArgs {
    /// The environment
    #[arg(value_name = "ENV")]
    pub env: String,
    /// The folder
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Show the files and the digest, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub act: ActArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Renders the roles for the settings in each file, with the facts of this machine and its last known peers, once with the \
                  bundle that the manifest names and once with DIR, and shows the difference. Secrets have placeholders."
)]
pub struct PolicyTestArgs {
    /// The folder
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// The settings of a host, which may be another one; several for several hosts
    #[arg(long = "as", value_name = "FILE", required = true, num_args = 1..)]
    pub settings: Vec<PathBuf>,
    /// Compare with this folder instead of asking the store, or with the roles of the package: `none`
    #[arg(long, value_name = "DIR")]
    pub against: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct PolicyListArgs {
    /// The environment
    #[arg(value_name = "ENV")]
    pub env: String,
    #[command(flatten)]
    pub at: StoreArgs,
}

#[derive(Debug, Args)]
pub struct PolicyShowArgs {
    /// The environment
    #[arg(value_name = "ENV")]
    pub env: String,
    /// Which bundle, or the beginning of its digest [default: the one that the manifest names]
    #[arg(value_name = "DIGEST")]
    pub digest: Option<String>,
    /// Print this file of it, such as `roles/app.yml`
    #[arg(long, value_name = "PATH")]
    pub file: Option<String>,
    #[command(flatten)]
    pub at: StoreArgs,
}
