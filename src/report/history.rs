//! Reports kept on the host: those of passes that did something, and a summary of the last pass.
//!
//! A pass that changed nothing writes nothing to disk, only a small summary to `/run` (in memory, lost at a
//! reboot).

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AppReport, Report, ResourceReport, ResourceStatus, VERSION};
use crate::exit::Exit;
use crate::ports::root::{Root, RootError, is_leftover};
use crate::ports::services::timer;
use crate::ports::state::{Document, StateError};
use crate::ports::{Host, RUN_DIR, clock};

/// The unit that starts passes.
pub(crate) const TIMER: &str = "trueup.timer";

/// Maximum number of kept reports.
const MAX_REPORTS: usize = 50;

/// Maximum size of all kept reports, in bytes: the report of a first pass, with the diffs of all its files,
/// may be large.
const MAX_REPORTS_BYTES: u64 = 8 << 20;

/// Private: the report contains output of commands and services.
const REPORT: Document = Document::new(VERSION, 16 << 20).private();

/// Padded size of the pass summary, in bytes: more than any summary needs, so that a shorter one overwrites a
/// longer one completely.
const SUMMARY_BYTES: usize = 2048;

/// In `/run`, which has room even when the disk is full.
const SUMMARY: Document = Document::new(VERSION, 64 << 10).overwritten(SUMMARY_BYTES);

/// Maximum length of the reason in the summary, in characters.
const MAX_REASON_CHARS: usize = 300;

/// How long a timer's period stays cached, and how long the absence of one does.
const PERIOD_CACHE_TTL: Duration = Duration::from_secs(600);
const NO_PERIOD_CACHE_TTL: Duration = Duration::from_secs(60);

/// Period of the timer, as last queried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TimerPeriod {
    /// Includes the timer's maximum delay; `null`: no timer starts passes.
    pub period_s: Option<u64>,
    /// Time of the query, in seconds on the clock of [`clock::monotonic_time`].
    asked_s: u64,
}

impl TimerPeriod {
    pub(crate) fn new(period: Option<Duration>, queried: Duration) -> TimerPeriod {
        TimerPeriod {
            period_s: period.map(|period| period.as_secs()),
            asked_s: queried.as_secs(),
        }
    }

    pub(crate) fn period(self) -> Option<Duration> {
        self.period_s.map(Duration::from_secs)
    }
}

/// Summary of the last pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PassSummary {
    pub version: u32,
    pub started: Timestamp,
    pub took_ms: u64,
    pub outcome: Exit,
    /// Why it did not converge, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// When the store last answered.
    pub store_answered: Option<Timestamp>,
    /// Start of the last pass that ended converged.
    #[serde(default)]
    pub good: Option<Timestamp>,
    /// Path of the metrics file, for a pass that cannot even read the settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub textfile: Option<PathBuf>,
    /// End of the pass, in milliseconds on the clock of [`clock::monotonic_time`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rhythm: Option<TimerPeriod>,
}

impl PassSummary {
    fn path() -> PathBuf {
        PathBuf::from(RUN_DIR).join("last.json")
    }

    /// The summary of the last pass since boot.
    pub(crate) fn load(root: &Root) -> Option<PassSummary> {
        SUMMARY.load_cache(root, &PassSummary::path())
    }

    /// Records that no pass could run.
    pub(crate) fn record_failure(
        root: &Root,
        started: Timestamp,
        outcome: Exit,
        why: &str,
    ) -> Result<(), RootError> {
        let before = PassSummary::load(root);
        let before = before.as_ref();
        let last = PassSummary {
            version: VERSION,
            started,
            took_ms: 0,
            outcome,
            why: Some(why.to_owned()),
            store_answered: before.and_then(|last| last.store_answered),
            good: before.and_then(|last| last.good),
            textfile: before.and_then(|last| last.textfile.clone()),
            ended_ms: Some(awake_ms()),
            rhythm: before.and_then(|last| last.rhythm),
        };
        last.save(root)
    }

    fn save(mut self, root: &Root) -> Result<(), RootError> {
        self.why = self
            .why
            .map(|why| why.chars().take(MAX_REASON_CHARS).collect());
        SUMMARY.save(root, &PassSummary::path(), &self)
    }
}

fn awake_ms() -> u64 {
    u64::try_from(clock::monotonic_time().as_millis()).unwrap_or(u64::MAX)
}

/// The reports of a host.
pub(crate) struct History<'a> {
    host: &'a Host,
}

impl<'a> History<'a> {
    pub(crate) fn new(host: &'a Host) -> History<'a> {
        History { host }
    }

    /// The summary of the last pass since boot.
    pub(crate) fn last(&self) -> Option<PassSummary> {
        PassSummary::load(&self.host.root)
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

    /// Saves the summary of this pass as the last one. `textfile`: path of its metrics.
    pub(crate) fn save_last(
        &self,
        report: &Report,
        textfile: Option<&Path>,
    ) -> Result<(), RootError> {
        let before = self.last();
        let before = before.as_ref();
        let last = PassSummary {
            version: VERSION,
            started: report.started,
            took_ms: report.took_ms,
            outcome: report.outcome,
            why: report.why(),
            store_answered: match report.stale {
                Some(_) => before.and_then(|last| last.store_answered),
                None => Some(report.started),
            },
            good: match report.outcome {
                Exit::Converged => Some(report.started),
                _ => before.and_then(|last| last.good),
            },
            textfile: textfile.map(Path::to_owned),
            ended_ms: Some(awake_ms()),
            rhythm: self.timer_period(before.and_then(|last| last.rhythm)),
        };
        last.save(&self.host.root)
    }

    /// The timer's period, cached: querying it is expensive compared with a pass that changes nothing.
    fn timer_period(&self, before: Option<TimerPeriod>) -> Option<TimerPeriod> {
        let now = clock::monotonic_time();
        let is_fresh = |before: &TimerPeriod| {
            let age = now.checked_sub(Duration::from_secs(before.asked_s));
            let limit = before
                .period_s
                .map_or(NO_PERIOD_CACHE_TTL, |_| PERIOD_CACHE_TTL);
            age.is_some_and(|age| age < limit)
        };
        if let Some(before) = before.filter(is_fresh) {
            return Some(before);
        }
        match timer(&self.host.root, &self.host.exec, TIMER) {
            Ok(None) => Some(TimerPeriod::new(None, now)),
            Ok(Some(timer)) => {
                let max_period = timer.period.map(|period| period + timer.max_delay);
                Some(TimerPeriod::new(max_period.filter(|_| timer.expected), now))
            }
            // Keep the previous period until the cache expires, instead of waiting for systemd again in each
            // pass.
            Err(_) => Some(TimerPeriod::new(before.and_then(TimerPeriod::period), now)),
        }
    }

    /// Whether a host that has been waiting or stale for hours would repeat itself: nothing was done, and the
    /// newest report already contains everything in this one.
    fn is_repeat(&self, report: &Report) -> bool {
        let Some(newest) = self.newest() else {
            return false;
        };
        let changed = |report: &Report| {
            report.counts.changed + report.counts.restarted + report.counts.reloaded
        };
        let lasting = |report: &Report| -> Vec<ResourceReport> {
            let rows = report.resources.iter();
            let rows =
                rows.filter(|row| row.status != ResourceStatus::Changed && row.paid.is_empty());
            rows.cloned().collect()
        };
        let maintenance = |report: &Report| -> Vec<String> {
            let lines = report.apps.iter().filter_map(AppReport::maintenance_line);
            lines.collect()
        };
        let stale = |report: &Report| report.stale.as_ref().map(|stale| stale.why.clone());
        changed(report) == 0
            && newest.outcome == report.outcome
            && newest.refused == report.refused
            && newest.kept_lists == report.kept_lists
            && newest.publish_error == report.publish_error
            && maintenance(&newest) == maintenance(report)
            && stale(&newest) == stale(report)
            && lasting(&newest) == report.resources
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
    fn example_report_and_summary_survive_a_round_trip() {
        assert_round_trip::<Report>(&REPORT, "report.json");
        assert_round_trip::<PassSummary>(&SUMMARY, "pass-summary.json");
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
