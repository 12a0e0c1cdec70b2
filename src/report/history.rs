//! Reports kept on the host: the passes that did something, and the last one whatever it did.
//!
//! A pass that changed nothing writes nothing to disk. Only a small note in `/run` (memory, gone
//! after a reboot) says that it happened.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Report, VERSION};
use crate::exit::Exit;
use crate::ports::root::{Attrs, RootError, is_leftover};
use crate::ports::{Host, RUN};

/// How many reports are kept.
const KEEP: usize = 50;

/// No report is larger, in bytes.
const MAX_REPORT: usize = 16 << 20;

/// How wide the note about the last pass is, in bytes: more than any is long.
const NOTE: usize = 256;

/// The note about the last pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    pub version: u32,
    pub started: Timestamp,
    pub took_ms: u64,
    pub outcome: Exit,
    /// When the store last answered.
    pub store_answered: Option<Timestamp>,
}

/// The reports of a host.
pub struct History<'a> {
    host: &'a Host,
}

impl<'a> History<'a> {
    pub fn new(host: &'a Host) -> History<'a> {
        History { host }
    }

    fn last_path() -> PathBuf {
        PathBuf::from(RUN).join("last.json")
    }

    /// The note about the last pass, if there was one since boot.
    pub fn last(&self) -> Option<Last> {
        let body = self
            .host
            .root
            .read(&History::last_path(), MAX_REPORT)
            .ok()??;
        let last: Last = serde_json::from_slice(&body).ok()?;
        (last.version == VERSION).then_some(last)
    }

    /// Notes a pass, and keeps its report if it did something or ended otherwise than the one
    /// before it.
    pub fn keep(&self, report: &Report) -> Result<(), RootError> {
        self.sweep()?;
        let before = self.last();
        let store_answered = match report.stale {
            Some(_) => before.as_ref().and_then(|last| last.store_answered),
            None => Some(report.started),
        };
        let same_as_before = before.is_some_and(|last| last.outcome == report.outcome);
        // In this order: a quiet pass reads none of what is kept.
        let tells_nothing = report.is_quiet() || same_as_before && self.is_repeat(report);
        if !tells_nothing {
            let folder = self.host.state("runs");
            self.host.root.make_dirs(&folder, &Attrs::mode(0o755))?;
            let body = serde_json::to_vec_pretty(report).expect("plain data is always JSON");
            let path = folder.join(format!("{}.json", report.run));
            self.host.root.replace(&path, &body, &Attrs::mode(0o644))?;
            self.prune()?;
        }
        let note = Last {
            version: VERSION,
            started: report.started,
            took_ms: report.took_ms,
            outcome: report.outcome,
            store_answered,
        };
        let body = serde_json::to_vec(&note).expect("plain data is always JSON");
        let path = History::last_path();
        self.host
            .root
            .make_dirs(std::path::Path::new(RUN), &Attrs::mode(0o755))?;
        self.host.root.note(&path, &body, NOTE)
    }

    /// A host that waits or is stale for hours says so once, not at every tick: nothing was done,
    /// and the newest report says all that this one does.
    fn is_repeat(&self, report: &Report) -> bool {
        let Some(newest) = self.kept().ok().and_then(|mut reports| reports.next()) else {
            return false;
        };
        let changed = |report: &Report| {
            report.counts.changed + report.counts.restarted + report.counts.reloaded
        };
        changed(report) == 0
            && newest.outcome == report.outcome
            && newest.refused == report.refused
            && report
                .resources
                .iter()
                .all(|row| newest.resources.contains(row))
    }

    /// Kept reports, newest first. One that cannot be read is left out.
    pub fn list(&self) -> Result<Vec<Report>, RootError> {
        Ok(self.kept()?.collect())
    }

    /// The same, each read when it is asked for.
    fn kept(&self) -> Result<impl Iterator<Item = Report>, RootError> {
        let folder = self.host.state("runs");
        let names = self.host.root.list(&folder)?.unwrap_or_default();
        Ok(names.into_iter().rev().filter_map(move |name| {
            let body = self.host.root.read(&folder.join(name), MAX_REPORT).ok()??;
            let report: Report = serde_json::from_slice(&body).ok()?;
            (report.version == VERSION).then_some(report)
        }))
    }

    /// A report's name is never used again, and a pass that does nothing keeps none: so nothing
    /// would ever replace what a killed pass was preparing here.
    fn sweep(&self) -> Result<(), RootError> {
        for folder in [self.host.state(""), self.host.state("runs")] {
            let names = self.host.root.list(&folder)?.unwrap_or_default();
            for name in names.iter().filter(|name| is_leftover(name)) {
                self.host.root.remove_tree(&folder.join(name))?;
            }
        }
        Ok(())
    }

    fn prune(&self) -> Result<(), RootError> {
        let folder = self.host.state("runs");
        let names = self.host.root.list(&folder)?.unwrap_or_default();
        for name in names.iter().take(names.len().saturating_sub(KEEP)) {
            self.host.root.remove(&folder.join(name))?;
        }
        Ok(())
    }
}
