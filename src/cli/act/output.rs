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

/// Prints the lines, or the document, and the warnings.
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
    for line in lines {
        output.print_line(line);
    }
    for warning in &published.warnings {
        output.print_line(format!("{}: {warning}", output.paint.changed("warning")));
    }
}
