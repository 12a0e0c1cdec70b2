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

/// Prints the lines, the warnings and then the hints among the lines; or the document.
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
    let is_hint = |line: &&String| line.starts_with("hint: ");
    for line in lines.iter().filter(|line| !is_hint(line)) {
        output.print_paragraph(line);
    }
    for warning in &published.warnings {
        output.print_paragraph(&format!("{}: {warning}", output.paint.changed("warning")));
    }
    // What to do next comes last.
    for hint in lines.iter().filter(is_hint) {
        output.print_paragraph(hint);
    }
}

/// The tasks for people that belong to a deployment, a line each.
pub(in crate::cli) fn note_lines(
    published: &PublishSummary,
    environment: &str,
    app: &str,
) -> Vec<String> {
    let known = published.desired.environments.get(environment);
    let entry = known.and_then(|known| known.own_entry(app)?.ok());
    let notes = entry.into_iter().flat_map(|entry| &entry.notes);
    notes
        .map(|note| format!("  to do: {}", note.text))
        .collect()
}
