//! Lists the passes that did something, one line each.

use serde_json::json;

use crate::cli::Output;
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::pass::Session;
use crate::report::{History, Report};

pub(super) fn run(limit: usize, session: &Session, output: &Output) -> Result<Exit, CommandError> {
    let mut reports = History::new(&session.host).list()?;
    reports.truncate(limit);
    if output.is_document() {
        output.print_document(&json!({"version": crate::report::VERSION, "passes": reports}));
        return Ok(Exit::Converged);
    }
    if reports.is_empty() {
        output.print_line("no pass has changed anything yet");
        return Ok(Exit::Converged);
    }
    let mut rows = vec![
        [
            "STARTED",
            "OUTCOME",
            "CHANGED",
            "RESTARTED",
            "FAILED",
            "TOOK",
            "WHAT",
        ]
        .map(String::from)
        .to_vec(),
    ];
    rows.extend(reports.iter().map(row));
    output.print_table(&rows);
    Ok(Exit::Converged)
}

fn row(report: &Report) -> Vec<String> {
    let mut ids: Vec<String> = report.resources.iter().map(|row| row.id.clone()).collect();
    let in_maintenance = report.apps.iter().filter(|app| app.maintenance.is_some());
    ids.extend(in_maintenance.map(|app| format!("maintenance of {}", app.app)));
    let more = ids.len().saturating_sub(3);
    ids.truncate(3);
    let mut changed_ids = ids.join(", ");
    if more > 0 {
        changed_ids.push_str(&format!(" and {more} more"));
    }
    vec![
        report.started.strftime("%F %T UTC").to_string(),
        report.outcome.word().to_owned(),
        report.counts.changed.to_string(),
        report.counts.restarted.to_string(),
        report.counts.failed.to_string(),
        format!("{} ms", report.took_ms),
        changed_ids,
    ]
}
