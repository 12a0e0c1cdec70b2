//! Who is told of a pass besides the one who started it: whoever logs in, and monitoring.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::{Places, Session};
use crate::apply::{RESOURCE, span};
use crate::desired::Desired;
use crate::exit::Exit;
use crate::ports::clock::{Clock, SystemClock};
use crate::ports::root::{Root, RootError};
use crate::report::{History, Last, Paint, Report, Status, metrics, motd, totals};
use crate::role::Catalog;

impl Session {
    /// Tells how a pass ended.
    pub(super) fn tell(&self, report: &Report) {
        harmless(
            "the note for who logs in",
            motd::tell(&self.host.root, report),
        );
        let took = Duration::from_millis(report.took_ms);
        self.measure(report.started, took, report.outcome, Some(report));
    }

    /// Tells that a pass could not be made.
    pub fn could_not(&self, outcome: Exit, why: &str) {
        let now = self.host.clock.now();
        tell_of_none(&self.host.root, now, outcome, why);
        self.measure(now, Duration::ZERO, outcome, None);
    }

    fn measure(&self, started: Timestamp, took: Duration, outcome: Exit, report: Option<&Report>) {
        let Some(folder) = &self.settings.metrics.textfile else {
            return;
        };
        let last = History::new(&self.host).last();
        let pass = metrics::Pass {
            environment: Some(&self.settings.environment),
            started,
            took,
            outcome,
            last: last.as_ref(),
            report,
        };
        harmless(
            "the metrics",
            metrics::write(&self.host.root, folder, &pass),
        );
    }
}

/// The sha that is wanted of each app.
pub(super) fn shas(desired: &Desired) -> BTreeMap<String, String> {
    let apps = desired.apps.iter();
    apps.map(|(app, wanted)| (app.clone(), wanted.sha.to_string()))
        .collect()
}

/// Puts into the log what a pass has left undone, and how it ended. A pass that says nothing new is
/// silent: there is one every half a minute.
pub(super) fn log(report: &Report, news: bool, catalog: &Catalog, desired: &Desired) {
    let outcome = report.outcome.word();
    let ended = totals(Paint::default(), report);
    if !news {
        tracing::debug!(target: RESOURCE, outcome, "{ended}");
        return;
    }
    let shas = shas(desired);
    for row in &report.resources {
        let resource = catalog.find(&row.id);
        let _told = resource.map(|resource| span(resource, catalog, &shas).entered());
        let (id, why) = (&row.id, row.why.as_deref().unwrap_or("it is not right"));
        match row.status {
            Status::Failed | Status::RolledBack => {
                tracing::error!(target: RESOURCE, verb = "failed", "{id}: {why}");
            }
            Status::Waiting | Status::Skipped => {
                tracing::info!(target: RESOURCE, verb = "wait", "{id}: {why}");
            }
            _ if !row.owed.is_empty() => {
                tracing::warn!(target: RESOURCE, verb = "owe", "{id}: {why}");
            }
            _ => {}
        }
    }
    if let Some(stale) = &report.stale {
        tracing::warn!(target: RESOURCE, "the store does not answer: {}", stale.why);
    }
    if let Some(refused) = &report.refused {
        tracing::error!(target: RESOURCE, "the manifest in the store is not taken: {refused}");
    }
    for kept in report.kept_lists.iter().chain(&report.untold) {
        tracing::warn!(target: RESOURCE, "{kept}");
    }
    for warning in &report.warnings {
        tracing::warn!(target: RESOURCE, "{warning}");
    }
    tracing::info!(target: RESOURCE, outcome, "{ended}");
}

/// Tells that no pass can be made, where not even the settings can be taken.
pub fn no_session(places: &Places, outcome: Exit, why: &str) {
    let Ok(root) = Root::at(&places.root) else {
        return;
    };
    let now = SystemClock.now();
    tell_of_none(&root, now, outcome, why);
    let last = Last::load(&root);
    let Some(folder) = last.as_ref().and_then(|last| last.textfile.as_deref()) else {
        return;
    };
    let pass = metrics::Pass {
        environment: None,
        started: now,
        took: Duration::ZERO,
        outcome,
        last: last.as_ref(),
        report: None,
    };
    harmless("the metrics", metrics::write(&root, folder, &pass));
}

fn tell_of_none(root: &Root, now: Timestamp, outcome: Exit, why: &str) {
    harmless(
        "the note about the last pass",
        Last::tell_of_none(root, now, outcome, why),
    );
    harmless(
        "the note for who logs in",
        motd::tell_of_none(root, outcome, why),
    );
}

/// What is told besides must not make a pass fail that went well.
fn harmless(what: &str, done: Result<(), RootError>) {
    if let Err(error) = done {
        tracing::warn!("{what} cannot be written: {error}");
    }
}
