//! What a pass writes to the log at its end.

use crate::apply::{RESOURCE_TARGET, resource_span};
use crate::desired::DesiredState;
use crate::ports::journal;
use crate::report::{AppReport, History, Paint, Report, ResourceStatus, summary_line};
use crate::role::Catalog;

/// Whether this pass writes to the journal, and that has to be told why the host is not converged.
pub(super) fn is_due_in_journal(history: &History<'_>, report: &Report) -> bool {
    journal::stderr_is_journal() && history.is_due_in_journal(report)
}

/// Logs what a pass left undone, and how it ended. A pass of which nothing `is_due` logs nothing, because the timer
/// starts one every 15 s.
pub(super) fn log_report(report: &Report, is_due: bool, catalog: &Catalog, desired: &DesiredState) {
    let outcome = report.outcome.word();
    let ended = summary_line(Paint::default(), report);
    if !is_due {
        tracing::debug!(target: RESOURCE_TARGET, outcome, "{ended}");
        return;
    }
    let shas = desired.wanted_shas();
    for row in &report.resources {
        let resource = catalog.find(&row.id);
        let _told = resource.map(|resource| resource_span(resource, catalog, &shas).entered());
        let (id, why) = (&row.id, row.why.as_deref().unwrap_or("it differs"));
        match row.status {
            ResourceStatus::Failed | ResourceStatus::RolledBack => {
                tracing::error!(target: RESOURCE_TARGET, verb = "failed", "{id}: {why}");
            }
            ResourceStatus::Waiting | ResourceStatus::Skipped => {
                tracing::info!(target: RESOURCE_TARGET, verb = "wait", "{id}: {why}");
            }
            _ if !row.owed.is_empty() => {
                tracing::warn!(target: RESOURCE_TARGET, verb = "owe", "{id}: {why}");
            }
            _ => {}
        }
    }
    for line in report.apps.iter().filter_map(AppReport::maintenance_line) {
        tracing::info!(target: RESOURCE_TARGET, verb = "wait", "{line}");
    }
    if let Some(stale) = &report.stale {
        tracing::warn!(target: RESOURCE_TARGET, "no manifest, so the last good one is in force: {}", stale.why);
    }
    if let Some(refused) = &report.refused {
        tracing::error!(target: RESOURCE_TARGET, "the manifest in the store is refused: {refused}");
    }
    for kept in report.kept_lists.iter().chain(&report.publish_error) {
        tracing::warn!(target: RESOURCE_TARGET, "{kept}");
    }
    for warning in &report.warnings {
        tracing::warn!(target: RESOURCE_TARGET, "{warning}");
    }
    tracing::info!(target: RESOURCE_TARGET, outcome, "{ended}");
}
