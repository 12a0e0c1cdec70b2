//! The environment of a command that changes secrets, and what such a command prints.

use serde::Serialize;

use crate::cli::Output;
use crate::cli::args::SecretTargetArgs;
use crate::cli::confirm::confirm;
use crate::cli::format::{current_user, parse_one_line};
use crate::cli::target::StoreTarget;
use crate::desired::PublishSummary;
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::secret::{EnvironmentSecrets, SecretTarget};
use crate::pass::{PassError, Paths};
use crate::ports::clock::{Clock, SystemClock};
use crate::ports::store::{self, Store};
use crate::problem::Problem;

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
pub(super) struct Changed<'a> {
    /// The secret that was set, edited or removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    /// The digest of its object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The public keys that the secrets are encrypted to, after a rekey.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipients: Option<Vec<String>>,
}

/// The environment of a command that changes secrets, with the store open.
pub(super) struct OpenedTarget {
    store: Box<dyn Store>,
    resolved: StoreTarget,
    pub environment: String,
    pub by: String,
    reason: Option<String>,
}

impl OpenedTarget {
    pub(super) fn open(
        args: &SecretTargetArgs,
        paths: &Paths,
    ) -> Result<OpenedTarget, CommandError> {
        let resolved = StoreTarget::resolve(&args.at, paths, "secret")?;
        let one_line = |option: &str, value: &Option<String>| {
            parse_one_line(option, value.as_deref()).map_err(CommandError::Usage)
        };
        Ok(OpenedTarget {
            store: store::open(&resolved.store).map_err(PassError::Store)?,
            resolved,
            environment: args.env.clone(),
            by: one_line("--by", &args.by)?.unwrap_or_else(current_user),
            reason: one_line("--reason", &args.reason)?,
        })
    }

    pub(super) fn target(&self) -> SecretTarget<'_> {
        SecretTarget {
            store: self.store.as_ref(),
            environment: &self.environment,
            manifest_key: &self.resolved.manifest,
            gone_after: self.resolved.fleet.gone_after(),
            by: &self.by,
            reason: self.reason.as_deref(),
            now: SystemClock.now(),
        }
    }

    /// Prints what a command that changed secrets did.
    pub(super) fn print(
        &self,
        line: &str,
        published: &PublishSummary,
        changed: Changed<'_>,
        output: &Output,
    ) {
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
pub(super) fn confirm_protected(
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
