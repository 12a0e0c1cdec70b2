//! `trueup status`: what an operator reads first.

use serde::Serialize;

use super::{Output, edge};
use crate::exit::Exit;
use crate::pass::{Places, Session};
use crate::ports::exec::StopFlag;
use crate::report::{
    Counts, History, Last, Report, Row, Status, change_lines, debt_line, waiting_lines,
};

/// The document of `status --json`.
#[derive(Debug, Serialize)]
struct Standing<'a> {
    version: u32,
    node: &'a str,
    environment: &'a str,
    outcome: Exit,
    /// Since boot; `null`: none yet.
    last_pass: Option<Last>,
    apps: &'a [crate::report::App],
    counts: Counts,
    resources: &'a [Row],
}

pub(super) fn run(places: &Places, output: &Output) -> Result<Exit, edge::Error> {
    let session = Session::open(places, StopFlag::default())?;
    let report = session.drift()?;
    let last = History::new(&session.host).last();
    // How the last pass ended counts as much as what is seen now: green never hides stale.
    let remembered = last.as_ref().map_or(Exit::Converged, |last| last.outcome);
    let lasting = matches!(
        remembered,
        Exit::Stale | Exit::Waiting | Exit::RolledBack | Exit::BadInput | Exit::Failed
    );
    let outcome = if lasting {
        report.outcome.and(remembered)
    } else {
        report.outcome
    };
    if output.json {
        output.document(&Standing {
            version: crate::report::VERSION,
            node: &report.node,
            environment: &report.environment,
            outcome,
            last_pass: last,
            apps: &report.apps,
            counts: report.counts,
            resources: &report.resources,
        });
    } else {
        print(&report, last.as_ref(), outcome, output);
    }
    Ok(outcome)
}

/// Where an app is and where it should be, in a line.
fn standing(app: &crate::report::App) -> String {
    let reference = app
        .reference
        .as_ref()
        .map_or(String::new(), |name| format!(" ({name})"));
    match (&app.actual, &app.wanted) {
        (None, None) => "nothing to deploy yet".into(),
        (Some(actual), None) => format!("at {actual}; the manifest does not name it"),
        (None, Some(wanted)) => format!("nothing deployed, wanted {wanted}{reference}"),
        (Some(actual), Some(wanted)) if actual == wanted => {
            format!("at {actual}{reference}, as wanted")
        }
        (Some(actual), Some(wanted)) => format!("at {actual}, wanted {wanted}{reference}"),
    }
}

fn print(report: &Report, last: Option<&Last>, outcome: Exit, output: &Output) {
    let paint = output.paint;
    let word = match outcome {
        Exit::Converged => paint.good(outcome.word()),
        Exit::Failed | Exit::BadInput | Exit::RolledBack => paint.bad(outcome.word()),
        _ => paint.changed(outcome.word()),
    };
    output.line(format!(
        "{} in {}: {word}",
        paint.strong(&report.node),
        report.environment
    ));
    let last = match last {
        Some(last) => format!(
            "{}, {} in {} ms",
            last.started.strftime("%F %T UTC"),
            last.outcome.word(),
            last.took_ms
        ),
        None => "none since boot".into(),
    };
    let mut rows = vec![vec!["last pass".into(), last]];
    for app in &report.apps {
        rows.push(vec![format!("app {}", app.app), standing(app)]);
    }
    let Counts { right, changed, .. } = report.counts;
    rows.push(vec![
        "resources".into(),
        match report.counts.waiting {
            0 => format!("{right} right, {changed} differ"),
            waiting => format!("{right} right, {changed} differ, {waiting} waiting"),
        },
    ]);
    output.table(&rows);
    for row in &report.resources {
        if let (Some(change), Some(why), Status::Waiting) = (&row.change, &row.why, row.status) {
            output.line(waiting_lines(paint, &row.id, change, why));
            continue;
        }
        if let Some(change) = &row.change {
            output.line(change_lines(paint, &row.id, change));
        }
        if let Some(why) = &row.why {
            output.line(format!("{} {}: {why}", paint.bad("!"), row.id));
        }
        for debt in &row.owed {
            output.line(debt_line(paint, &row.id, debt, false));
        }
    }
    super::plan::print_state(report, output);
}
