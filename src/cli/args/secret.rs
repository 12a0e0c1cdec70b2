//! The options of `trueup secret`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::act::PublisherArgs;
use crate::cli::target::StoreArgs;

#[derive(Debug, Args)]
pub struct SecretArgs {
    #[command(subcommand)]
    pub command: SecretCommand,
}

#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Set a secret to what comes on standard input, or is typed at the terminal
    Set(SecretSetArgs),
    /// Change a secret in an editor
    Edit(SecretEditArgs),
    /// Show the names of the secrets, and since when each has its value; no values
    List(SecretListArgs),
    /// Encrypt the secrets to the keys of the hosts as they are now, after showing the new ones
    Rekey(RekeyArgs),
    /// Remove a secret
    Remove(SecretRemoveArgs),
}

/// Who changes secrets, and where they are.
#[derive(Debug, Args)]
pub struct SecretTargetArgs {
    /// The environment
    #[arg(value_name = "ENV")]
    pub env: String,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    #[command(flatten)]
    pub publisher: PublisherArgs,
}

/// The operator's own key.
#[derive(Debug, Args)]
pub struct IdentityArgs {
    /// Your private key: an ssh key (ed25519 or rsa) or an age key [default: ~/.ssh/id_ed25519, then ~/.ssh/id_rsa]
    #[arg(long, value_name = "FILE", env = "TRUEUP_IDENTITY")]
    pub identity: Option<PathBuf>,
}

/// Which keys are accepted without a question.
#[derive(Debug, Args)]
pub struct AcceptArgs {
    /// Accept the new key with this fingerprint, `SHA256:…`, and no other one; `all` accepts all, forged ones too
    #[arg(long, value_name = "FINGERPRINT")]
    pub accept: Vec<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  pwgen 32 1 | trueup secret set production db-password\n\n\
                  The value is never an argument: other users of \
                  the machine see those. Hosts get it with their next pass; what renders it with `secret(\"db-password\")` changes, \
                  and restarts what depends on it.\n\n\
                  A final newline is dropped where the value is used, unless it is a text of several lines. The first secret of an \
                  environment makes your own key a recipient; `trueup secret rekey ENV` adds those of the hosts."
)]
pub struct SecretSetArgs {
    #[command(flatten)]
    pub target: SecretTargetArgs,
    /// Its name, as in `secret("NAME")`
    #[arg(value_name = "NAME")]
    pub name: String,
    #[command(flatten)]
    pub accept: AcceptArgs,
    #[command(flatten)]
    pub key: IdentityArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Decrypts the secret with your key into a file that only you can read, in memory where the system has such a place, \
                  opens it in $VISUAL, $EDITOR or vi, and removes it afterwards. Nothing is written if you change nothing."
)]
pub struct SecretEditArgs {
    #[command(flatten)]
    pub target: SecretTargetArgs,
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    #[command(flatten)]
    pub accept: AcceptArgs,
    #[command(flatten)]
    pub key: IdentityArgs,
}

#[derive(Debug, Args)]
pub struct SecretListArgs {
    /// The environment
    #[arg(value_name = "ENV")]
    pub env: String,
    #[command(flatten)]
    pub at: StoreArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Hosts publish their public keys in their records, which whoever can write to the store can forge: compare each new \
                  fingerprint, on the host, before you accept it:\n  \
                  ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub\n\n\
                  Without a terminal nothing is accepted, except with --accept.\n\n\
                  A recipient that is removed keeps what it could read before: set new values afterwards."
)]
pub struct RekeyArgs {
    #[command(flatten)]
    pub target: SecretTargetArgs,
    #[command(flatten)]
    pub accept: AcceptArgs,
    /// Add a recipient that no host publishes, such as a colleague: `ssh-ed25519 … NAME`, or `age1… NAME`
    #[arg(long, value_name = "KEY")]
    pub add: Vec<String>,
    /// Remove a recipient, by its name or fingerprint
    #[arg(long, value_name = "NAME")]
    pub remove: Vec<String>,
    #[command(flatten)]
    pub key: IdentityArgs,
}

#[derive(Debug, Args)]
pub struct SecretRemoveArgs {
    #[command(flatten)]
    pub target: SecretTargetArgs,
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
}
