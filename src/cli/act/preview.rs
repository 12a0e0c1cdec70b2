//! What a change of the manifest would do, shown on standard error before an operator is asked for it.

use std::io::Write;

use anstream::{AutoStream, ColorChoice};

use crate::desired::{Manifest, PublishSummary, ShaChange};
use crate::printable;
use crate::report::{Paint, unified_diff};

/// Lines of a diff that are printed: the first manifest of a large fleet has many.
const MAX_DIFF_LINES: usize = 200;

/// Describes a change that is not written yet.
pub(in crate::cli) type Preview<'a> = &'a dyn Fn(&PublishSummary, Paint) -> Vec<String>;

/// The diff of the manifest, and the apps whose sha moves.
pub(in crate::cli) fn preview_lines(
    environment: &str,
    forecast: &PublishSummary,
    paint: Paint,
) -> Vec<String> {
    let mut lines = manifest_diff(forecast, "as it would be", paint);
    let moved = forecast.changes.iter();
    let moved = moved.filter(|one| one.from.as_ref() != Some(&one.to));
    lines.extend(moved.map(|one| move_text(one, environment)));
    let warnings = forecast.warnings.iter();
    lines.extend(warnings.map(|warning| format!("{}: {warning}", paint.changed("warning"))));
    lines
}

/// `production/shop 4f2c9d0 -> 9b1c44e`.
fn move_text(one: &ShaChange, environment: &str) -> String {
    let from = one.from.as_ref().map_or("new", |sha| sha.short());
    format!("{environment}/{} {from} -> {}", one.app, one.to.short())
}

/// The difference of the manifest's texts, as `diff -u` prints it; empty if it stays as it is. `after` describes the new
/// one.
pub(in crate::cli) fn manifest_diff(
    summary: &PublishSummary,
    after: &str,
    paint: Paint,
) -> Vec<String> {
    let Some(texts) = &summary.texts else {
        return Vec::new();
    };
    let name = summary.manifest.as_str();
    let mut lines = unified_diff(
        paint,
        (&format!("{name} (before)"), &texts.before),
        (&format!("{name} ({after})"), &texts.after),
    );
    let more = lines.len().saturating_sub(MAX_DIFF_LINES);
    if more > 0 {
        lines.truncate(MAX_DIFF_LINES);
        lines.push(format!("… and {more} more lines"));
    }
    lines
}

/// The environment's generation that a change starts from; `None`: it has none yet.
pub(super) fn generation_before(summary: &PublishSummary, environment: &str) -> Option<u64> {
    let texts = summary.texts.as_ref()?;
    let before = Manifest::parse(&summary.manifest, texts.before.as_bytes()).ok()?;
    before.generation_of(environment)
}

/// Prints lines where the question follows: standard output stays reserved for results.
pub(super) fn show_before_question(lines: impl FnOnce(Paint) -> Vec<String>) {
    let colour = AutoStream::choice(&std::io::stderr()) != ColorChoice::Never;
    let mut stderr = std::io::stderr();
    for line in lines(Paint { colour }) {
        let line = match colour {
            true => printable::styled(&line),
            false => printable::text(&line),
        };
        let _ = writeln!(stderr, "{line}");
    }
}
