//! Reports kept on the host: those of passes that did something, and a summary of the last pass.
//!
//! A pass that changed nothing writes nothing to disk, only a small summary to `/run` (in memory, lost at a
//! reboot).

use super::{AppReport, Report, ResourceReport, ResourceStatus, VERSION};
use crate::exit::Exit;
use crate::policy::PolicyStatus;
use crate::ports::Host;
use crate::ports::root::{RootError, is_leftover};
use crate::ports::state::{Document, StateError};

/// The unit that starts passes.
pub(crate) const TIMER: &str = "trueup.timer";

/// Maximum number of kept reports.
const MAX_REPORTS: usize = 50;

/// Maximum size of all kept reports, in bytes: the report of a first pass, with the diffs of all its files,
/// may be large.
const MAX_REPORTS_BYTES: u64 = 8 << 20;

/// Private: the report contains output of commands and services.
const REPORT: Document = Document::new(VERSION, 16 << 20).private();

/// The reports of a host.
pub(crate) struct History<'a> {
    pub(super) host: &'a Host,
}

impl<'a> History<'a> {
    pub(crate) fn new(host: &'a Host) -> History<'a> {
        History { host }
    }

    /// Saves the report of a pass that did something or ended differently from the previous one. Returns
    /// whether it saved it, that is, whether the report has news.
    pub(crate) fn save_if_new(&self, report: &Report) -> Result<bool, RootError> {
        self.remove_leftovers()?;
        let before = self.last().map(|last| last.outcome);
        // Recovery after a failed pass is news. A quiet pass after a quiet one skips reading the kept
        // reports.
        let tells_nothing = match before {
            None | Some(Exit::Converged) if report.is_quiet() => true,
            Some(before) => before == report.outcome && self.is_repeat(report),
            None => false,
        };
        if !tells_nothing {
            let path = self.host.state_path("runs");
            let path = path.join(format!("{}.json", report.run));
            REPORT.save(&self.host.root, &path, report)?;
            self.prune()?;
        }
        Ok(!tells_nothing)
    }

    /// Whether a host that has been waiting or stale for hours would repeat itself: nothing was done, and the
    /// newest report already contains everything in this one.
    fn is_repeat(&self, report: &Report) -> bool {
        let Some(newest) = self.newest() else {
            return false;
        };
        let changed = |report: &Report| {
            let counts = &report.counts;
            counts.changed + counts.restarted + counts.reloaded + counts.updated_at_runtime
        };
        let in_one_line = |report: &Report| -> Vec<ResourceReport> {
            let rows = report.resources.iter();
            rows.map(ResourceReport::comparable).collect()
        };
        let lasting = |report: &Report| -> Vec<ResourceReport> {
            let rows = report.resources.iter();
            let rows =
                rows.filter(|row| row.status != ResourceStatus::Changed && row.paid.is_empty());
            rows.map(ResourceReport::comparable).collect()
        };
        let maintenance = |report: &Report| -> Vec<String> {
            let lines = report.apps.iter().filter_map(AppReport::maintenance_line);
            lines.collect()
        };
        let policy = |report: &Report| report.policy.as_ref().map(PolicyStatus::comparable);
        let stale = |report: &Report| report.stale.as_ref().map(|stale| stale.why.clone());
        changed(report) == 0
            && newest.outcome == report.outcome
            && newest.refused == report.refused
            && newest.kept_lists == report.kept_lists
            && newest.publish_error == report.publish_error
            && maintenance(&newest) == maintenance(report)
            && policy(&newest) == policy(report)
            && stale(&newest) == stale(report)
            && lasting(&newest) == in_one_line(report)
    }

    /// Kept reports, newest first. Skips broken ones.
    pub(crate) fn list(&self) -> Result<Vec<Report>, RootError> {
        self.saved_reports()?.collect()
    }

    /// The newest kept report, from the last pass with news.
    pub(crate) fn newest(&self) -> Option<Report> {
        self.saved_reports().ok()?.next()?.ok()
    }

    /// Same as [`History::list`], but reads each report on demand.
    fn saved_reports(&self) -> Result<impl Iterator<Item = Result<Report, RootError>>, RootError> {
        let folder = self.host.state_path("runs");
        let names = self.host.root.list(&folder)?.unwrap_or_default();
        Ok(names.into_iter().rev().filter_map(move |name| {
            match REPORT.load(&self.host.root, &folder.join(name)) {
                Ok(report) => report.map(Ok),
                Err(StateError::Root(error)) if error.is_permission_denied() => Some(Err(error)),
                Err(_) => None,
            }
        }))
    }

    /// Removes temporary files of killed passes. The name of a report is never reused and a quiet pass saves
    /// none, so nothing would ever overwrite them.
    fn remove_leftovers(&self) -> Result<(), RootError> {
        for folder in [self.host.state_path(""), self.host.state_path("runs")] {
            // It may be a link of root's, to another disk.
            let folder = self.host.root.canonicalize(&folder)?.unwrap_or(folder);
            let names = self.host.root.list(&folder)?.unwrap_or_default();
            for name in names.iter().filter(|name| is_leftover(name)) {
                self.host.root.remove_tree(&folder.join(name))?;
            }
        }
        Ok(())
    }

    fn prune(&self) -> Result<(), RootError> {
        let folder = self.host.state_path("runs");
        let names = self.host.root.list(&folder)?.unwrap_or_default();
        // Starts from the newest, which is kept whatever its size.
        let mut bytes = 0;
        for (at, name) in names.iter().rev().enumerate() {
            let path = folder.join(name);
            bytes += self.host.root.meta(&path)?.map_or(0, |meta| meta.size);
            if at > 0 && (at >= MAX_REPORTS || bytes > MAX_REPORTS_BYTES) {
                self.host.root.remove_file(&path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{report, row};
    use super::*;
    use crate::ports::state::testing::assert_round_trip;
    use crate::ports::testing::Sandbox;

    #[test]
    fn example_report_survives_a_round_trip() {
        assert_round_trip::<Report>(&REPORT, "report.json");
    }

    /// Saves a report of about this many bytes, named after this second.
    fn save_report(sandbox: &Sandbox, second: usize, bytes: usize) {
        let mut report = report(vec![ResourceReport {
            why: Some("x".repeat(bytes)),
            ..row(ResourceStatus::Failed)
        }]);
        report.run = format!("20261121T{second:06}.000Z");
        History::new(&sandbox.host).save_if_new(&report).unwrap();
    }

    fn saved_runs(sandbox: &Sandbox) -> Vec<String> {
        let list = History::new(&sandbox.host).list().unwrap();
        list.into_iter().map(|report| report.run).collect()
    }

    #[test]
    fn reports_are_bounded_and_the_newest_is_always_kept() {
        let sandbox = Sandbox::with_base_system();
        for second in 0..MAX_REPORTS + 3 {
            save_report(&sandbox, second, second + 1);
        }
        assert_eq!(saved_runs(&sandbox).len(), MAX_REPORTS);
        assert_eq!(
            saved_runs(&sandbox)[0],
            format!("20261121T{:06}.000Z", MAX_REPORTS + 2)
        );
        save_report(&sandbox, 100, 5 << 20);
        save_report(&sandbox, 101, 6 << 20);
        assert_eq!(saved_runs(&sandbox), ["20261121T000101.000Z"]);
        save_report(&sandbox, 102, 9 << 20);
        assert_eq!(saved_runs(&sandbox), ["20261121T000102.000Z"]);
        save_report(&sandbox, 103, 1);
        assert_eq!(saved_runs(&sandbox), ["20261121T000103.000Z"]);
    }
}
