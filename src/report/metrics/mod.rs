//! Metrics of the last pass, as a file for the textfile collector of Prometheus's node_exporter.
//!
//! Written only if the settings name its folder, because every pass writes it, while a pass of an idle host
//! otherwise writes nothing to disk. The file is replaced atomically, so that the collector never reads a
//! partial one.

pub(crate) mod claims;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::{AppReport, AppState, Counts, PassSummary, Report};
use crate::exit::Exit;
use crate::ports::root::{Attrs, Root, RootError};
use crate::printable;

/// The collector reads files that end in `.prom`.
const FILE_NAME: &str = "trueup.prom";

/// Data from which the metrics of a pass are computed.
pub(crate) struct PassMetrics<'a> {
    /// `None`: even the settings were invalid.
    pub environment: Option<&'a str>,
    pub started: Timestamp,
    pub took: Duration,
    pub outcome: Exit,
    /// The summary of earlier passes.
    pub last: Option<&'a PassSummary>,
    /// `None`: no pass could run.
    pub report: Option<&'a Report>,
}

/// Writes the file into `folder`, which must exist: it belongs to the collector.
pub(crate) fn write(root: &Root, folder: &Path, pass: &PassMetrics<'_>) -> Result<(), RootError> {
    let path = folder.join(FILE_NAME);
    root.write_atomic(&path, render(metrics(pass)).as_bytes(), &Attrs::mode(0o644))
}

/// One metric: its name, its help text, and its values with their labels.
struct Metric {
    name: &'static str,
    help: &'static str,
    values: Vec<(Vec<(&'static str, String)>, f64)>,
}

fn render(metrics: Vec<Metric>) -> String {
    let mut text = String::new();
    for metric in metrics {
        let Metric { name, help, values } = metric;
        if values.is_empty() {
            continue;
        }
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, value) in values {
            let labels: Vec<String> = labels
                .iter()
                .map(|(label, value)| format!("{label}=\"{}\"", escape_label(value)))
                .collect();
            let labels = match labels.is_empty() {
                true => String::new(),
                false => format!("{{{}}}", labels.join(",")),
            };
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    }
    text
}

fn metrics(pass: &PassMetrics<'_>) -> Vec<Metric> {
    let last = pass.last;
    let report = pass.report;
    let outcomes = PASS_OUTCOMES.iter().map(|outcome| {
        let labels = vec![("outcome", label_value(outcome.word()))];
        (labels, bool_value(*outcome == pass.outcome))
    });
    let mut all = vec![
        info_metric(pass.environment),
        gauge(
            "trueup_last_pass_timestamp_seconds",
            "Start of the last pass.",
            Some(unix_seconds(pass.started)),
        ),
        gauge(
            "trueup_last_good_pass_timestamp_seconds",
            "Start of the last pass that converged, since boot.",
            last.and_then(|last| last.good).map(unix_seconds),
        ),
        gauge(
            "trueup_pass_period_seconds",
            "Maximum time from the end of a pass to the next one by the timer.",
            last.and_then(|last| last.rhythm?.period())
                .map(|period| period.as_secs_f64()),
        ),
        gauge(
            "trueup_last_pass_duration_seconds",
            "Duration of the last pass.",
            Some(pass.took.as_secs_f64()),
        ),
        Metric {
            name: "trueup_last_pass_outcome",
            help: "1 for the outcome of the last pass, 0 for every other one.",
            values: outcomes.collect(),
        },
        gauge(
            "trueup_store_answered_timestamp_seconds",
            "Time of the store's last answer, since boot.",
            last.and_then(|last| last.store_answered).map(unix_seconds),
        ),
    ];
    if let Some(report) = report {
        all.push(gauge(
            "trueup_store_stale",
            "1 while the store does not answer and the last good manifest is in force.",
            Some(bool_value(report.stale.is_some())),
        ));
        all.extend(report_metrics(report));
    }
    all
}

fn info_metric(environment: Option<&str>) -> Metric {
    Metric {
        name: "trueup_info",
        help: "The version of trueup and the environment of this node.",
        values: vec![(
            vec![
                ("version", env!("CARGO_PKG_VERSION").into()),
                ("environment", environment.unwrap_or_default().to_owned()),
            ],
            1.0,
        )],
    }
}

/// A metric without labels; it is left out if the value is `None`.
fn gauge(name: &'static str, help: &'static str, value: Option<f64>) -> Metric {
    let value = value.map(|value| (Vec::new(), value));
    Metric {
        name,
        help,
        values: value.into_iter().collect(),
    }
}

fn to_f64(count: usize) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "there are no 2^52 resources")]
    let number = count as f64;
    number
}

fn report_metrics(report: &Report) -> Vec<Metric> {
    let mut all = count_metrics(&report.counts);
    all.extend(app_metrics(&report.apps));
    all
}

fn count_metrics(counts: &Counts) -> Vec<Metric> {
    let resources = [
        ("right", counts.right),
        ("changed", counts.changed),
        ("waiting", counts.waiting),
        ("skipped", counts.skipped),
        ("rolled_back", counts.rolled_back),
        ("failed", counts.failed),
    ];
    let duties = [
        ("restart", counts.restarted),
        ("reload", counts.reloaded),
        ("runtime_update", counts.updated_at_runtime),
    ];
    let values = |label: &'static str, counts: &[(&str, usize)]| {
        let value =
            |(word, count): &(&str, usize)| (vec![(label, (*word).to_owned())], to_f64(*count));
        counts.iter().map(value).collect()
    };
    vec![
        Metric {
            name: "trueup_resources",
            help: "Number of resources by status after the last pass.",
            values: values("status", &resources),
        },
        Metric {
            name: "trueup_services_moved",
            help: "Number of restarts and reloads in the last pass, and of changes that a running service took over instead.",
            values: values("duty", &duties),
        },
        gauge(
            "trueup_owed",
            "Number of restarts, reloads and runs that are still owed.",
            Some(to_f64(counts.owed)),
        ),
    ]
}

fn app_metrics(apps: &[AppReport]) -> [Metric; 2] {
    let sha = |sha: &Option<String>| sha.clone().unwrap_or_default();
    let infos = apps.iter().map(|app| {
        let labels = vec![
            ("app", app.app.clone()),
            ("sha", sha(&app.actual)),
            ("wanted", sha(&app.wanted)),
            ("ref", app.reference.clone().unwrap_or_default()),
        ];
        (labels, 1.0)
    });
    let states = apps.iter().flat_map(|app| {
        APP_STATES.iter().map(|state| {
            let labels = vec![
                ("app", app.app.clone()),
                ("state", label_value(state.word())),
            ];
            (labels, bool_value(*state == app.state))
        })
    });
    [
        Metric {
            name: "trueup_app_info",
            help: "The actual and the wanted sha of each app.",
            values: infos.collect(),
        },
        Metric {
            name: "trueup_app_state",
            help: "1 for the state of each app, 0 for every other one.",
            values: states.collect(),
        },
    ]
}

/// Outcomes that a pass can have.
const PASS_OUTCOMES: &[Exit] = &[
    Exit::Converged,
    Exit::Pending,
    Exit::Stale,
    Exit::Waiting,
    Exit::RolledBack,
    Exit::BadInput,
    Exit::Failed,
];

const APP_STATES: &[AppState] = &[
    AppState::Converged,
    AppState::Pending,
    AppState::Waiting,
    AppState::Held,
    AppState::Stale,
    AppState::RolledBack,
    AppState::Refused,
    AppState::Failed,
];

fn label_value(word: &str) -> String {
    word.replace(' ', "_")
}

fn bool_value(on: bool) -> f64 {
    if on { 1.0 } else { 0.0 }
}

fn unix_seconds(at: Timestamp) -> f64 {
    #[allow(
        clippy::cast_precision_loss,
        reason = "milliseconds of our times are exact in a double"
    )]
    let millis = at.as_millisecond() as f64;
    millis / 1000.0
}

/// Escapes a label's value for the text format. Drops control characters: the publisher chooses the ref.
fn escape_label(value: &str) -> String {
    let mut text = String::new();
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c if printable::is_unprintable(c) => {}
            c => text.push(c),
        }
    }
    text
}
