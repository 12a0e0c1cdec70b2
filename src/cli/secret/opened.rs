//! The environment of a command that changes secrets, and what such a command prints.

use serde::Serialize;

use crate::cli::Output;
use crate::cli::act::Publisher;
use crate::cli::args::SecretTargetArgs;
use crate::cli::confirm::confirm;
use crate::cli::format::{current_user, parse_one_line};
use crate::desired::PublishSummary;
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::secret::{EnvironmentSecrets, SecretTarget};
use crate::pass::Paths;
use crate::ports::clock::{Clock, SystemClock};
use crate::problem::Problem;
use crate::settings::Signers;

/// The document of commands that change secrets.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    outcome: Exit,
    environment: &'a str,
    /// `null`: there was nothing to change.
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
pub(super) struct OpenedTarget<'a> {
    publisher: Publisher<'a>,
    /// Who may have signed what the manifest says of the environment.
    trust: Option<Signers>,
    trusts_current: bool,
    pub environment: String,
    pub by: String,
    reason: Option<String>,
}

impl<'a> OpenedTarget<'a> {
    pub(super) fn open(
        args: &'a SecretTargetArgs,
        paths: &Paths,
    ) -> Result<OpenedTarget<'a>, CommandError> {
        let one_line = |option: &str, value: &Option<String>| {
            parse_one_line(option, value.as_deref()).map_err(CommandError::Usage)
        };
        let publisher = Publisher::open(&args.publisher, paths, "secret")?;
        Ok(OpenedTarget {
            trust: publisher.trust(&args.env)?,
            trusts_current: args.publisher.trust_current,
            publisher,
            environment: args.env.clone(),
            by: one_line("--by", &args.publisher.by)?.unwrap_or_else(current_user),
            reason: one_line("--reason", &args.reason)?,
        })
    }

    pub(super) fn target(&self) -> SecretTarget<'_> {
        let target = &self.publisher.target;
        SecretTarget {
            store: self.publisher.store.as_ref(),
            environment: &self.environment,
            manifest_key: &target.manifest,
            gone_after: target.fleet.gone_after(),
            by: &self.by,
            reason: self.reason.as_deref(),
            signers: self.trust.as_ref(),
            trusts_current: self.trusts_current,
            publisher: &self.publisher,
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
            let (generation, warnings) = (published.generation, &published.warnings);
            return self.print_document(generation, changed, warnings, output);
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

    /// Prints that there was nothing to change.
    pub(super) fn print_unchanged(&self, line: &str, unchanged: Changed<'_>, output: &Output) {
        match output.is_document() {
            true => self.print_document(None, unchanged, &[], output),
            false => output.print_line(line),
        }
    }

    fn print_document(
        &self,
        generation: Option<u64>,
        changed: Changed<'_>,
        warnings: &[Problem],
        output: &Output,
    ) {
        output.print_document(&Document {
            version: crate::report::VERSION,
            outcome: Exit::Converged,
            environment: &self.environment,
            generation,
            changed,
            warnings,
        });
    }
}

/// Asks before a change of an environment that is marked as protected.
pub(super) fn confirm_protected(
    args: &SecretTargetArgs,
    current: &EnvironmentSecrets,
    what: &str,
) -> Result<(), CommandError> {
    if !current.protected || args.publisher.yes {
        return Ok(());
    }
    let question = format!("{} is protected: {what}?", args.env);
    match confirm(&question, "--yes")? {
        true => Ok(()),
        false => Err(CommandError::Usage(Problem::new("nothing was changed"))),
    }
}
