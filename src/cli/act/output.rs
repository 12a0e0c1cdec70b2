//! What a command prints about a change of the manifest.

use jiff::Timestamp;
use serde::Serialize;

use crate::cli::Output;
use crate::desired::{Action, PublishSummary, ShaChange};
use crate::exit::Exit;
use crate::operate::commits::CommitRange;
use crate::operate::promote::ServedApp;
use crate::operate::rollback_target::RollbackPlan;
use crate::problem::Problem;

/// The document of commands that change the manifest.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    outcome: Exit,
    action: Action,
    /// The store's URL and the key.
    manifest: &'a str,
    environment: &'a str,
    /// `false`: the manifest said all of it already, or it was a dry run.
    written: bool,
    generation: Option<u64>,
    apps: &'a [ShaChange],
    #[serde(flatten)]
    details: &'a Details<'a>,
    warnings: &'a [Problem],
}

/// What only some of these commands know.
#[derive(Debug, Default, Serialize)]
pub(in crate::cli) struct Details<'a> {
    /// `promote`: what the other environment serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub served: Option<&'a [ServedApp]>,
    /// `rollback`: from where to where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<&'a RollbackPlan>,
    /// `rollback`: the commits and migrations that it takes away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<&'a CommitRange>,
    /// `hold` and `rollback`: why the apps stay where they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_reason: Option<&'a str>,
    /// The end of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_until: Option<Timestamp>,
}

/// Prints the lines, or the document, and the warnings.
pub(in crate::cli) fn print_published(
    output: &Output,
    action: Action,
    environment: &str,
    published: &PublishSummary,
    lines: &[String],
    details: &Details<'_>,
) {
    if output.is_document() {
        output.print_document(&Document {
            version: crate::report::VERSION,
            outcome: Exit::Converged,
            action,
            manifest: &published.manifest,
            environment,
            written: published.written,
            generation: published.generation,
            apps: &published.changes,
            details,
            warnings: &published.warnings,
        });
        return;
    }
    for line in lines {
        output.print_paragraph(line);
    }
    for warning in &published.warnings {
        output.print_paragraph(&format!("{}: {warning}", output.paint.changed("warning")));
    }
}
