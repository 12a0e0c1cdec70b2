//! What `trueup publish` prints.

use std::collections::BTreeMap;

use serde::Serialize;

use super::args::PublishArgs;
use crate::cli::Output;
use crate::cli::act::manifest_diff;
use crate::cli::commits::range_lines;
use crate::desired::{PublishRequest, PublishSummary, Sha, ShaChange};
use crate::exit::Exit;
use crate::fleet::rollout::RolloutView;
use crate::operate::commits::CommitRange;
use crate::operate::publish::Forecast;
use crate::problem::Problem;
use crate::report::Paint;

/// What is to be published, with its commits looked up.
#[derive(Clone, Copy)]
pub(super) struct ResolvedRequest<'a> {
    pub args: &'a PublishArgs,
    pub request: &'a PublishRequest,
    /// The CI system of whose job this is, if it said so.
    pub system: Option<&'a str>,
    /// What lies between the shas, by app.
    pub ranges: &'a BTreeMap<String, CommitRange>,
    pub warnings: &'a [Problem],
}

/// A publish, or the forecast of one, and what is known of it.
pub(super) struct Published<'a> {
    args: &'a PublishArgs,
    request: &'a PublishRequest,
    system: Option<&'a str>,
    summary: &'a PublishSummary,
    ranges: &'a BTreeMap<String, CommitRange>,
    forecasts: &'a [Forecast],
    warnings: Vec<&'a Problem>,
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

impl<'a> Published<'a> {
    pub(super) fn new(
        resolved: &ResolvedRequest<'a>,
        summary: &'a PublishSummary,
        forecasts: &'a [Forecast],
    ) -> Published<'a> {
        let warnings = resolved.warnings.iter();
        Published {
            args: resolved.args,
            request: resolved.request,
            system: resolved.system,
            summary,
            ranges: resolved.ranges,
            forecasts,
            warnings: warnings.chain(&summary.warnings).collect(),
        }
    }
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
        let after = match self.is_forecast() {
            true => "as it would be",
            false => "new",
        };
        manifest_diff(self.summary, after, paint)
    }

    /// Whether it is not written yet.
    fn is_forecast(&self) -> bool {
        self.summary.texts.is_some() && !self.summary.written
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

    /// Prints it, without the diff if that was shown before.
    pub(super) fn print_text(&self, has_previewed: bool, output: &Output) {
        let paint = output.paint;
        if !has_previewed {
            self.diff(paint)
                .iter()
                .for_each(|line| output.print_line(line));
        }
        for line in self.move_lines(paint) {
            output.print_paragraph(&line);
        }
        if self.args.dry_run {
            output.print_line("nothing was written (--dry-run)");
        }
    }

    /// All of it, for a question.
    pub(super) fn preview_lines(&self, paint: Paint) -> Vec<String> {
        let mut lines = self.diff(paint);
        lines.extend(self.move_lines(paint));
        lines
    }

    /// What becomes of each app.
    fn move_lines(&self, paint: Paint) -> Vec<String> {
        let environment = &self.request.environment;
        let mut lines = Vec::new();
        for one in &self.summary.changes {
            lines.push(move_line(one, environment, self.summary));
            lines.extend(self.app_lines(&one.app, paint));
        }
        for (app, sha) in &self.request.next {
            lines.push(format!(
                "{environment}/{app}: hosts build {} ahead ({}) in {}",
                sha.short(),
                generation(self.summary),
                self.summary.manifest
            ));
            lines.extend(self.app_lines(app, paint));
        }
        if self.summary.changes.is_empty() && self.request.next.is_empty() {
            lines.push(generation_line(self.summary));
        }
        if let Some(reason) = &self.args.hold {
            let until = self.args.until.as_deref().unwrap_or("it is lifted");
            lines.push(format!("held at these until {until}: {reason}"));
        }
        if self.args.lift_hold {
            lines.push("no hold is in force any more".to_owned());
        }
        let warnings = self.warnings.iter();
        lines.extend(warnings.map(|warning| format!("{}: {warning}", paint.changed("warning"))));
        lines
    }

    /// What an app gets, and what hosts will do about it.
    fn app_lines(&self, app: &str, paint: Paint) -> Vec<String> {
        let apps = self.apps();
        let Some(one) = apps.iter().find(|one| one.app == app) else {
            return Vec::new();
        };
        let ranges = one.range.iter();
        let ranges = ranges.flat_map(|range| range_lines(paint, range));
        let mut lines: Vec<String> = ranges.map(|line| format!("  {line}")).collect();
        if one.from == Some(one.to) || one.next {
            return lines;
        }
        let environments = &self.summary.desired.environments;
        let entry = environments.get(&self.request.environment);
        let entry = entry.and_then(|known| known.own_entry(app)?.ok());
        let notes = entry.map_or(&[][..], |entry| &entry.notes);
        let notes = notes.iter();
        lines.extend(
            notes.map(|note| paint.changed(&format!("  to do {}: {}", note.number, note.text))),
        );
        let forecasts = one.forecast.iter();
        let forecasts = forecasts.flat_map(|forecast| forecast.describe());
        lines.extend(forecasts.map(|line| format!("  {line}")));
        lines
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
