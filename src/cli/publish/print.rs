//! What `trueup publish` prints.

use std::collections::BTreeMap;

use serde::Serialize;

use super::args::PublishArgs;
use crate::cli::Output;
use crate::cli::act::note_lines;
use crate::cli::commits::range_lines;
use crate::desired::{PublishRequest, PublishSummary, Sha, ShaChange};
use crate::exit::Exit;
use crate::fleet::rollout::RolloutView;
use crate::operate::commits::CommitRange;
use crate::operate::publish::Forecast;
use crate::problem::Problem;
use crate::report::{Paint, unified_diff};

/// Lines of a diff that are printed: the first manifest of a large fleet has many.
const MAX_DIFF_LINES: usize = 200;

/// A publish, and what is known of it.
pub(super) struct Published<'a> {
    pub args: &'a PublishArgs,
    /// As it was resolved.
    pub request: &'a PublishRequest,
    /// The CI system of whose job this is, if it said so.
    pub system: Option<&'a str>,
    pub summary: &'a PublishSummary,
    pub ranges: &'a BTreeMap<String, CommitRange>,
    pub forecasts: &'a [Forecast],
    pub warnings: Vec<&'a Problem>,
}

/// The document of `publish --output`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    /// That of the rollouts with `--wait`, else `converged`.
    outcome: Exit,
    /// The store's URL and the key.
    manifest: &'a str,
    environment: &'a str,
    dry_run: bool,
    /// `false`: every app had its sha already, or `dry_run`.
    written: bool,
    generation: Option<u64>,
    by: Option<&'a str>,
    reason: Option<&'a str>,
    ci: Option<&'a str>,
    apps: Vec<AppDocument<'a>>,
    /// Of the manifest, as `diff -u` prints it; empty if it stays as it is.
    diff: String,
    warnings: Vec<&'a Problem>,
    /// With `--wait`: how each rollout ended.
    rollouts: &'a [RolloutView],
}

/// One app in the document.
#[derive(Debug, Serialize)]
struct AppDocument<'a> {
    app: &'a str,
    /// `null`: the app is new in this environment.
    from: Option<&'a Sha>,
    to: &'a Sha,
    /// With `--next`: it is built ahead, and `from` stays.
    next: bool,
    #[serde(rename = "ref")]
    reference: Option<&'a str>,
    /// What lies between; `null` where there was no sha before.
    range: Option<&'a CommitRange>,
    /// What hosts will do about it.
    forecast: Option<&'a Forecast>,
}

impl Published<'_> {
    /// Every app with its sha before and after, and whether it is built ahead only.
    fn apps(&self) -> Vec<AppDocument<'_>> {
        let changes = self.summary.changes.iter();
        let moved = changes.map(|one| (one.app.as_str(), one.from.as_ref(), &one.to, false));
        let next = self.request.next.iter().map(|(app, sha)| {
            let environments = &self.summary.desired.environments;
            let environment = environments.get(&self.request.environment);
            let entry = environment.and_then(|known| known.own_entry(app)?.ok());
            (app.as_str(), entry.map(|entry| &entry.sha), sha, true)
        });
        moved
            .chain(next)
            .map(|(app, from, to, next)| AppDocument {
                app,
                from,
                to,
                next,
                reference: self.request.references.get(app).map(String::as_str),
                // Another publisher may have come first.
                range: self
                    .ranges
                    .get(app)
                    .filter(|range| Some(&range.from) == from),
                forecast: self.forecasts.iter().find(|known| known.app == app),
            })
            .collect()
    }

    fn diff(&self, paint: Paint) -> Vec<String> {
        let Some(texts) = &self.summary.texts else {
            return Vec::new();
        };
        let name = self.summary.manifest.as_str();
        let after = if self.args.dry_run {
            "as it would be"
        } else {
            "new"
        };
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

    pub(super) fn print_document(&self, rollouts: &[RolloutView], outcome: Exit, output: &Output) {
        output.print_document(&Document {
            version: crate::report::VERSION,
            outcome,
            manifest: &self.summary.manifest,
            environment: &self.request.environment,
            dry_run: self.args.dry_run,
            written: self.summary.written,
            generation: self.summary.generation,
            by: self.request.by.as_deref(),
            reason: self.request.reason.as_deref(),
            ci: self.system,
            apps: self.apps(),
            diff: self.diff(Paint { colour: false }).join("\n"),
            warnings: self.warnings.clone(),
            rollouts,
        });
    }

    pub(super) fn print_text(&self, output: &Output) {
        let paint = output.paint;
        for line in self.diff(paint) {
            output.print_line(line);
        }
        let environment = &self.request.environment;
        for one in &self.summary.changes {
            output.print_line(move_line(one, environment, self.summary));
            self.print_app(&one.app, output);
        }
        for (app, sha) in &self.request.next {
            output.print_line(format!(
                "{environment}/{app}: hosts build {} ahead ({}) in {}",
                sha.short(),
                generation(self.summary),
                self.summary.manifest
            ));
            self.print_app(app, output);
        }
        if self.summary.changes.is_empty() && self.request.next.is_empty() {
            output.print_line(generation_line(self.summary));
        }
        if let Some(reason) = &self.args.hold {
            let until = self.args.until.as_deref().unwrap_or("it is lifted");
            output.print_line(format!("held at these until {until}: {reason}"));
        }
        if self.args.lift_hold {
            output.print_line("no hold is in force any more");
        }
        for warning in &self.warnings {
            output.print_line(format!("{}: {warning}", paint.changed("warning")));
        }
        if self.args.dry_run {
            output.print_line("nothing was written (--dry-run)");
        }
    }

    /// What an app gets, and what hosts will do about it.
    fn print_app(&self, app: &str, output: &Output) {
        let apps = self.apps();
        let Some(one) = apps.iter().find(|one| one.app == app) else {
            return;
        };
        for line in one
            .range
            .iter()
            .flat_map(|range| range_lines(output.paint, range))
        {
            output.print_line(format!("  {line}"));
        }
        if one.from == Some(one.to) || one.next {
            return;
        }
        let environments = &self.summary.desired.environments;
        let entry = environments.get(&self.request.environment);
        let entry = entry.and_then(|known| known.own_entry(app)?.ok());
        let notes = entry.map_or(&[][..], |entry| &entry.notes);
        for (index, note) in notes.iter().enumerate() {
            let number = index + 1;
            output.print_line(
                output
                    .paint
                    .changed(&format!("  to do {number}: {}", note.text)),
            );
        }
        for line in one.forecast.iter().flat_map(|forecast| forecast.describe()) {
            output.print_line(format!("  {line}"));
        }
        for line in note_lines(self.summary, &self.request.environment, app) {
            output.print_line(line);
        }
    }
}

fn generation(published: &PublishSummary) -> String {
    let generation = published.generation;
    generation.map_or("no generation".into(), |number| {
        format!("generation {number}")
    })
}

/// `production/shop 4f2c9d0 -> 9b1c44e (generation 43) in s3://packages/sha_number.yml`.
pub(super) fn move_line(one: &ShaChange, environment: &str, published: &PublishSummary) -> String {
    let (generation, manifest) = (generation(published), &published.manifest);
    let name = format!("{environment}/{}", one.app);
    let to = one.to.short();
    match &one.from {
        Some(from) if *from == one.to => {
            format!("{name} is already at {to} ({generation}) in {manifest}")
        }
        Some(from) => {
            format!(
                "{name} {} -> {to} ({generation}) in {manifest}",
                from.short()
            )
        }
        None => format!("{name} new -> {to} ({generation}) in {manifest}"),
    }
}

/// `generation 43 in s3://packages/sha_number.yml`, for a call that names no app.
fn generation_line(published: &PublishSummary) -> String {
    let generation = published.generation.unwrap_or_default();
    let already = if published.written { "" } else { " already" };
    format!("generation {generation}{already} in {}", published.manifest)
}
