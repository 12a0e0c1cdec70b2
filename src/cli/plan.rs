//! `trueup plan`: what a pass would do.

use serde_json::json;

use super::args::PlanArgs;
use super::{Output, edge};
use crate::exit::Exit;
use crate::pass::{Options, Places, Session};
use crate::ports::exec::StopFlag;
use crate::report::{Report, Status, change_lines, debt_line, diff_lines, totals, waiting_lines};
use crate::role;

pub(super) fn run(args: &PlanArgs, places: &Places, output: &Output) -> Result<Exit, edge::Error> {
    let session = Session::open(places, StopFlag::default())?;
    if let Some(key) = &args.explain {
        return explain(&session, key, output);
    }
    let options = Options {
        only: args.only.clone(),
        accept_shrink: args.accept_shrink,
        ..Options::default()
    };
    let report = session.plan(&options)?;
    if output.json {
        output.document(&report);
    } else {
        print(&report, output);
    }
    Ok(report.outcome)
}

/// The changes and debts of a plan, then its closing line.
pub(super) fn print(report: &Report, output: &Output) {
    let paint = output.paint;
    for row in &report.resources {
        match (&row.change, row.status) {
            (Some(change), Status::Waiting) => {
                let why = row.why.as_deref().unwrap_or_default();
                output.line(waiting_lines(paint, &row.id, change, why));
            }
            (Some(change), _) => {
                output.line(change_lines(paint, &row.id, change));
                for line in diff_lines(paint, &row.id, change) {
                    output.line(line);
                }
            }
            (None, Status::Unknown) => {
                let why = row.why.as_deref().unwrap_or_default();
                output.line(format!(
                    "? {} unknown until what is above is done: {why}",
                    row.id
                ));
            }
            (None, Status::Failed) => {
                output.line(format!(
                    "{} {}: {}",
                    paint.bad("failed"),
                    row.id,
                    row.why.as_deref().unwrap_or_default()
                ));
                if let Some(hint) = &row.hint {
                    output.line(format!("  hint: {hint}"));
                }
            }
            (None, _) => {}
        }
    }
    for row in &report.resources {
        for debt in &row.owed {
            output.line(debt_line(paint, &row.id, debt, false));
        }
    }
    print_state(report, output);
    output.line(totals(paint, report));
}

/// What is worth saying about the desired state itself.
pub(super) fn print_state(report: &Report, output: &Output) {
    let paint = output.paint;
    if let Some(stale) = &report.stale {
        let since = stale.since.map_or("an unknown time".into(), |since| {
            since.strftime("%F %T UTC").to_string()
        });
        output.line(format!(
            "{}: {}; the last good manifest is in force, from {since}",
            paint.changed("stale"),
            stale.why
        ));
    }
    if let Some(refused) = &report.refused {
        output.line(format!(
            "{}: the manifest in the store is not taken, the last good one is in force\n  {refused}",
            paint.bad("refused")
        ));
    }
    for kept in report.kept_lists.iter().chain(&report.untold) {
        output.line(format!("{}: {kept}", paint.changed("stale")));
    }
    for app in &report.apps {
        if let Some(held) = &app.held {
            output.line(format!("{}: {held}", paint.strong(&app.app)));
        }
    }
    for warning in &report.warnings {
        output.line(format!("{}: {warning}", paint.changed("warning")));
    }
}

fn explain(session: &Session, key: &str, output: &Output) -> Result<Exit, edge::Error> {
    let explanation = role::explain(&session.settings, key)
        .map_err(|problem| edge::Error::Input(problem.into()))?;
    if output.json {
        output.document(&json!({
            "version": crate::report::VERSION,
            "key": explanation.key,
            "layers": explanation.layers,
        }));
        return Ok(Exit::Converged);
    }
    let last = explanation.layers.len() - 1;
    let rows: Vec<Vec<String>> = explanation
        .layers
        .iter()
        .enumerate()
        .map(|(i, layer)| {
            vec![
                if i == last {
                    "=>".into()
                } else {
                    String::new()
                },
                layer.layer.clone(),
                layer.value.to_string(),
                layer.at.to_string(),
            ]
        })
        .collect();
    output.table(&rows);
    Ok(Exit::Converged)
}
