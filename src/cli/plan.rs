//! `trueup plan`: reports what a pass would do.

use serde_json::json;

use super::Output;
use super::args::PlanArgs;
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::pass::{PassOptions, Paths, Session};
use crate::policy::PolicyPhase;
use crate::ports::exec::StopFlag;
use crate::report::{
    Report, ResourceStatus, change_line, diff_lines, obligation_line, summary_line, waiting_lines,
};
use crate::role;

pub(super) fn run(args: &PlanArgs, paths: &Paths, output: &Output) -> Result<Exit, CommandError> {
    let session = Session::open(paths, StopFlag::default())?;
    if let Some(key) = &args.explain {
        return explain(&session, key, output);
    }
    let options = PassOptions {
        only: args.only.clone(),
        accept_shrink: args.accept_shrink,
        ..PassOptions::default()
    };
    let report = session.plan(&options)?;
    if output.is_document() {
        output.print_document(&report);
    } else {
        print(&report, output);
    }
    Ok(report.outcome)
}

/// Prints the changes and obligations of a plan, then its closing line.
pub(super) fn print(report: &Report, output: &Output) {
    let paint = output.paint;
    for row in &report.resources {
        match (&row.change, row.status) {
            (Some(change), ResourceStatus::Waiting) => {
                let why = row.why.as_deref().unwrap_or_default();
                output.print_line(waiting_lines(paint, &row.id, change, why));
            }
            (Some(change), _) => {
                output.print_line(change_line(paint, &row.id, change));
                for line in diff_lines(paint, &row.id, change) {
                    output.print_line(line);
                }
            }
            (None, ResourceStatus::Unknown) => {
                let why = row.why.as_deref().unwrap_or_default();
                output.print_line(format!(
                    "{} {} until the changes above are applied: {why}",
                    paint.changed("unknown"),
                    row.id
                ));
            }
            (None, ResourceStatus::Failed) => {
                output.print_line(format!(
                    "{} {}: {}",
                    paint.bad("failed"),
                    row.id,
                    row.why.as_deref().unwrap_or_default()
                ));
                if let Some(hint) = &row.hint {
                    output.print_line(format!("  hint: {hint}"));
                }
            }
            (None, _) => {}
        }
    }
    for row in &report.resources {
        for obligation in &row.owed {
            output.print_line(obligation_line(paint, &row.id, obligation, false));
        }
    }
    print_state(report, output);
    output.print_line(summary_line(paint, report));
}

/// Prints warnings about the desired state itself.
pub(super) fn print_state(report: &Report, output: &Output) {
    let paint = output.paint;
    if let Some(stale) = &report.stale {
        let since = stale.since.map_or("an unknown time".into(), |since| {
            since.strftime("%F %T UTC").to_string()
        });
        output.print_line(format!(
            "{}: {}; using the last good manifest (the store last answered at {since})",
            paint.changed("stale"),
            stale.why
        ));
    }
    if let Some(refused) = &report.refused {
        output.print_line(format!(
            "{}: no valid manifest in the store; the last good one stays in force\n  {refused}",
            paint.bad("refused")
        ));
    }
    for kept in report.kept_lists.iter().chain(&report.publish_error) {
        output.print_line(format!("{}: {kept}", paint.changed("stale")));
    }
    if let Some(policy) = &report.policy
        && policy.phase != PolicyPhase::InForce
    {
        let line = policy.description();
        output.print_line(format!("{}: {line}", paint.strong("policy")));
    }
    for app in &report.apps {
        if let Some(held) = &app.held {
            output.print_line(format!("{}: {held}", paint.strong(&app.app)));
        }
        if let Some(maintenance) = &app.maintenance {
            output.print_line(format!(
                "{}: {}",
                paint.strong(&app.app),
                paint.changed(maintenance)
            ));
        }
    }
    for warning in &report.warnings {
        output.print_line(format!("{}: {warning}", paint.changed("warning")));
    }
}

fn explain(session: &Session, key: &str, output: &Output) -> Result<Exit, CommandError> {
    let explanation = role::explain(&session.settings, key)
        .map_err(|problem| CommandError::Input(problem.into()))?;
    if output.is_document() {
        output.print_document(&json!({
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
    output.print_list(&rows);
    Ok(Exit::Converged)
}
