//! What a command prints about a change of the manifest.

use serde::Serialize;

use crate::cli::Output;
use crate::desired::{Action, PublishSummary, ShaChange};
use crate::exit::Exit;
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
    warnings: &'a [Problem],
}

/// Prints the lines, the warnings and then the hints among the lines; or the document.
pub(in crate::cli) fn print_published(
    output: &Output,
    action: Action,
    environment: &str,
    published: &PublishSummary,
    lines: &[String],
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
            warnings: &published.warnings,
        });
        return;
    }
    let is_hint = |line: &&String| line.starts_with("hint: ");
    for line in lines.iter().filter(|line| !is_hint(line)) {
        output.print_line(line);
    }
    for warning in &published.warnings {
        output.print_line(format!("{}: {warning}", output.paint.changed("warning")));
    }
    // What to do next comes last.
    for hint in lines.iter().filter(is_hint) {
        output.print_line(hint);
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
