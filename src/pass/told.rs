//! Who is told of a pass besides the one who started it: whoever logs in, and monitoring.

use std::time::Duration;

use jiff::Timestamp;

use super::{Options, Places, Session};
use crate::exit::Exit;
use crate::ports::root::{Root, RootError};
use crate::report::{History, Report, metrics, motd};

impl Session {
    /// Tells how a pass ended.
    pub(super) fn tell(&self, report: &Report, options: &Options) {
        // A pass for one resource says nothing about the host.
        if options.only.is_some() {
            return;
        }
        harmless(
            "the note for who logs in",
            motd::tell(&self.host.root, report),
        );
        let took = Duration::from_millis(report.took_ms);
        self.measure(report.started, took, report.outcome, Some(report));
    }

    /// Tells those who watch from elsewhere that a pass could not be made.
    pub fn could_not(&self, outcome: Exit, why: &str) {
        harmless(
            "the note for who logs in",
            motd::tell_of_none(&self.host.root, outcome, why),
        );
        self.measure(self.host.clock.now(), Duration::ZERO, outcome, None);
    }

    fn measure(&self, started: Timestamp, took: Duration, outcome: Exit, report: Option<&Report>) {
        let Some(folder) = &self.settings.metrics.textfile else {
            return;
        };
        let last = History::new(&self.host).last();
        let pass = metrics::Pass {
            environment: &self.settings.environment,
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

/// Tells whoever logs in that no pass can be made, where not even the settings can be taken.
pub fn no_session(places: &Places, outcome: Exit, why: &str) {
    if let Ok(root) = Root::at(&places.root) {
        harmless(
            "the note for who logs in",
            motd::tell_of_none(&root, outcome, why),
        );
    }
}

/// What is told besides must not make a pass fail that went well.
fn harmless(what: &str, done: Result<(), RootError>) {
    if let Err(error) = done {
        tracing::warn!("{what} cannot be written: {error}");
    }
}
