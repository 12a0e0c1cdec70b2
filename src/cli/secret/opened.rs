//! The environment of a command that changes secrets, and what such a command prints.

use serde::Serialize;

use crate::cli::Output;
use crate::cli::act::Publisher;
use crate::cli::args::SecretTargetArgs;
use crate::desired::{Action, PublishRequest, PublishSummary};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::secret::{SecretPublisher, SecretTarget};
use crate::pass::Paths;
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

/// The environment of a command that changes secrets.
pub(super) struct OpenedTarget<'a> {
    publisher: Publisher<'a>,
    pub environment: &'a str,
    request: PublishRequest,
}

impl<'a> OpenedTarget<'a> {
    pub(super) fn open(
        args: &'a SecretTargetArgs,
        paths: &Paths,
    ) -> Result<OpenedTarget<'a>, CommandError> {
        let publisher = Publisher::open(&args.publisher, paths, "secret")?;
        let request = publisher.request(&args.env, Action::Secret, args.reason.as_deref())?;
        Ok(OpenedTarget {
            publisher,
            environment: &args.env,
            request,
        })
    }

    /// Who changes them.
    pub(super) fn by(&self) -> &str {
        self.request.by.as_deref().unwrap_or_default()
    }

    pub(super) fn target(&self) -> SecretTarget<'_> {
        SecretTarget {
            store: self.publisher.store.as_ref(),
            environment: self.environment,
            manifest_key: &self.publisher.target.manifest,
            gone_after: self.publisher.target.fleet.gone_after(),
            signers: self.publisher.trusted_signers(),
            now: self.request.at,
        }
    }

    /// Runs what publishes edits of the manifest.
    pub(super) fn publish<T>(
        &self,
        run: impl FnOnce(&SecretPublisher<'_>) -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        run(&SecretPublisher {
            request: self.request.clone(),
            publish: &|request| self.publisher.publish(request, false),
        })
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
                environment: self.environment,
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
