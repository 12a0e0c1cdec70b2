//! Announces the outcome of a pass outside its own process: in the motd, in the metrics and in the log.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::{Paths, Session};
use crate::apply::{RESOURCE_TARGET, resource_span};
use crate::desired::DesiredState;
use crate::exit::Exit;
use crate::ports::clock::{Clock, SystemClock};
use crate::ports::root::{Root, RootError};
use crate::report::{
    History, Paint, PassSummary, Report, ResourceStatus, metrics, motd, summary_line,
};
use crate::role::Catalog;

impl Session {
    /// Writes the motd line and the metrics of a finished pass.
    pub(super) fn announce(&self, report: &Report) {
        log_error(
            "the note for who logs in",
            motd::write(&self.host.root, report),
        );
        let took = Duration::from_millis(report.took_ms);
        self.write_metrics(report.started, took, report.outcome, Some(report));
    }

    /// Writes the motd line, the metrics and the summary for a pass that could not run.
    pub fn announce_failure(&self, outcome: Exit, why: &str) {
        let now = self.host.clock.now();
        write_failure_notes(&self.host.root, now, outcome, why);
        self.write_metrics(now, Duration::ZERO, outcome, None);
    }

    fn write_metrics(
        &self,
        started: Timestamp,
        took: Duration,
        outcome: Exit,
        report: Option<&Report>,
    ) {
        let Some(folder) = &self.settings.metrics.textfile else {
            return;
        };
        let last = History::new(&self.host).last();
        let pass = metrics::PassMetrics {
            environment: Some(&self.settings.environment),
            started,
            took,
            outcome,
            last: last.as_ref(),
            report,
        };
        log_error(
            "the metrics",
            metrics::write(&self.host.root, folder, &pass),
        );
    }
}

/// The wanted sha of each app.
pub(super) fn wanted_shas(desired: &DesiredState) -> BTreeMap<String, String> {
    let apps = desired.apps.iter();
    apps.map(|(app, wanted)| (app.clone(), wanted.sha.to_string()))
        .collect()
}

/// Logs what a pass left undone, and how it ended. A pass without news logs nothing, because the timer starts
/// one every half minute.
pub(super) fn log_report(report: &Report, is_new: bool, catalog: &Catalog, desired: &DesiredState) {
    let outcome = report.outcome.word();
    let ended = summary_line(Paint::default(), report);
    if !is_new {
        tracing::debug!(target: RESOURCE_TARGET, outcome, "{ended}");
        return;
    }
    let shas = wanted_shas(desired);
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
    if let Some(stale) = &report.stale {
        tracing::warn!(target: RESOURCE_TARGET, "the store does not answer: {}", stale.why);
    }
    if let Some(refused) = &report.refused {
        tracing::error!(target: RESOURCE_TARGET, "the manifest in the store is refused: {refused}");
    }
    for kept in report.kept_lists.iter().chain(&report.untold) {
        tracing::warn!(target: RESOURCE_TARGET, "{kept}");
    }
    for warning in &report.warnings {
        tracing::warn!(target: RESOURCE_TARGET, "{warning}");
    }
    tracing::info!(target: RESOURCE_TARGET, outcome, "{ended}");
}

/// Announces that no pass can run, when even the settings are invalid.
pub fn announce_no_session(paths: &Paths, outcome: Exit, why: &str) {
    let Ok(root) = Root::at(&paths.root) else {
        return;
    };
    let now = SystemClock.now();
    write_failure_notes(&root, now, outcome, why);
    let last = PassSummary::load(&root);
    let Some(folder) = last.as_ref().and_then(|last| last.textfile.as_deref()) else {
        return;
    };
    let pass = metrics::PassMetrics {
        environment: None,
        started: now,
        took: Duration::ZERO,
        outcome,
        last: last.as_ref(),
        report: None,
    };
    log_error("the metrics", metrics::write(&root, folder, &pass));
}

fn write_failure_notes(root: &Root, now: Timestamp, outcome: Exit, why: &str) {
    log_error(
        "the note about the last pass",
        PassSummary::record_failure(root, now, outcome, why),
    );
    log_error(
        "the note for who logs in",
        motd::write_failure(root, outcome, why),
    );
}

/// Failed announcements must not fail a pass that went well.
fn log_error(what: &str, done: Result<(), RootError>) {
    if let Err(error) = done {
        tracing::warn!("cannot write {what}: {error}");
    }
}
