//! Announces the outcome of a pass outside its own process: in the motd and in the metrics.

use std::time::Duration;

use jiff::Timestamp;

use super::{Paths, Session};
use crate::exit::Exit;
use crate::ports::clock::{Clock, SystemClock};
use crate::ports::root::{Root, RootError};
use crate::report::{History, PassSummary, Report, metrics, motd};

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

    /// Writes the motd line of a host whose state an operator's command has changed since the last pass.
    pub(crate) fn announce_state(&self, outcome: Exit, why: Option<&str>) {
        let written = motd::write_state(&self.host.root, outcome, why);
        log_error("the note for who logs in", written);
    }

    /// Writes the motd line, the metrics and the summary for a pass that could not run.
    pub(crate) fn announce_failure(&self, outcome: Exit, why: &str) {
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

/// Announces that no pass can run, when even the settings are invalid.
pub(crate) fn announce_no_session(paths: &Paths, outcome: Exit, why: &str) {
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
fn log_error(target: &str, written: Result<(), RootError>) {
    if let Err(error) = written {
        tracing::warn!("cannot write {target}: {error}");
    }
}
