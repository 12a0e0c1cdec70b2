//! `trueup secret`: the secrets of an environment. No command prints a value.

mod edit;
mod identity;
mod list;
mod rekey;
mod set;

use serde::Serialize;

use super::Output;
use super::args::{SecretArgs, SecretCommand, SecretRemoveArgs, SecretTargetArgs};
use super::confirm::confirm;
use super::format::{current_user, parse_one_line};
use super::target::StoreTarget;
use crate::desired::PublishSummary;
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::secret::{self, EnvironmentSecrets, SecretTarget};
use crate::pass::{PassError, Paths};
use crate::ports::clock::{Clock, SystemClock};
use crate::ports::store::{self, Store};
use crate::problem::Problem;

pub(super) fn run(args: SecretArgs, paths: &Paths, output: &Output) -> Result<Exit, CommandError> {
    match &args.command {
        SecretCommand::Set(args) => set::run(args, paths, output),
        SecretCommand::Edit(args) => edit::run(args, paths, output),
        SecretCommand::List(args) => list::run(args, paths, output),
        SecretCommand::Rekey(args) => rekey::run(args, paths, output),
        SecretCommand::Remove(args) => remove(args, paths, output),
    }
}

/// The document of commands that change secrets.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    outcome: Exit,
    environment: &'a str,
    generation: Option<u64>,
    #[serde(flatten)]
    changed: Changed<'a>,
    warnings: &'a [Problem],
}

/// What a command changed.
#[derive(Debug, Default, Serialize)]
struct Changed<'a> {
    /// The secret that was set, edited or removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    /// The digest of its object.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    /// The public keys that the secrets are encrypted to, after a rekey.
    #[serde(skip_serializing_if = "Option::is_none")]
    recipients: Option<Vec<String>>,
}

/// The environment of a command that changes secrets, with the store open.
struct OpenedTarget {
    store: Box<dyn Store>,
    place: StoreTarget,
    environment: String,
    by: String,
    reason: Option<String>,
}

impl OpenedTarget {
    fn open(args: &SecretTargetArgs, paths: &Paths) -> Result<OpenedTarget, CommandError> {
        let place = StoreTarget::resolve(&args.at, paths, "secret")?;
        let one_line = |option: &str, value: &Option<String>| {
            parse_one_line(option, value.as_deref()).map_err(CommandError::Usage)
        };
        Ok(OpenedTarget {
            store: store::open(&place.store).map_err(PassError::Store)?,
            place,
            environment: args.env.clone(),
            by: one_line("--by", &args.by)?.unwrap_or_else(current_user),
            reason: one_line("--reason", &args.reason)?,
        })
    }

    fn target(&self) -> SecretTarget<'_> {
        SecretTarget {
            store: self.store.as_ref(),
            environment: &self.environment,
            manifest_key: &self.place.manifest,
            gone_after: self.place.fleet.gone_after(),
            by: &self.by,
            reason: self.reason.as_deref(),
            now: SystemClock.now(),
        }
    }

    /// Prints what a command that changed secrets did.
    fn print(&self, line: &str, published: &PublishSummary, changed: Changed<'_>, output: &Output) {
        if output.is_document() {
            output.print_document(&Document {
                version: crate::report::VERSION,
                outcome: Exit::Converged,
                environment: &self.environment,
                generation: published.generation,
                changed,
                warnings: &published.warnings,
            });
            return;
        }
        let generation = published.generation.unwrap_or_default();
        output.print_line(format!(
            "{line} (generation {generation} in {})",
            published.manifest
        ));
        for warning in &published.warnings {
            output.print_line(format!("{}: {warning}", output.paint.changed("warning")));
        }
    }
}

/// Asks before a change of an environment that is marked as protected.
fn confirm_protected(
    args: &SecretTargetArgs,
    current: &EnvironmentSecrets,
    what: &str,
) -> Result<(), CommandError> {
    if !current.protected || args.yes {
        return Ok(());
    }
    let question = format!("{} is protected: {what}?", args.env);
    match confirm(&question, "--yes")? {
        true => Ok(()),
        false => Err(CommandError::Usage(Problem::new("nothing was changed"))),
    }
}

fn remove(args: &SecretRemoveArgs, paths: &Paths, output: &Output) -> Result<Exit, CommandError> {
    let opened = OpenedTarget::open(&args.target, paths)?;
    let current = opened.target().read()?;
    confirm_protected(&args.target, &current, &format!("remove `{}`", args.name))?;
    let published = secret::remove(&opened.target(), &current, &args.name)?;
    let line = format!("removed the secret {}/{}", args.target.env, args.name);
    let changed = Changed {
        name: Some(&args.name),
        ..Changed::default()
    };
    opened.print(&line, &published, changed, output);
    Ok(Exit::Converged)
}
