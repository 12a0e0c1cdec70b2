//! The summary of the last pass, in `/run`: in memory, and lost at a reboot.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{History, Report, TIMER, VERSION};
use crate::exit::Exit;
use crate::ports::root::{Root, RootError};
use crate::ports::services::timer;
use crate::ports::state::Document;
use crate::ports::{RUN_DIR, clock, journal};

/// Padded size of the pass summary, in bytes: more than any summary needs, so that a shorter one overwrites a
/// longer one completely.
const SUMMARY_BYTES: usize = 2048;

/// In `/run`, which has room even when the disk is full.
const SUMMARY: Document = Document::new(VERSION, 64 << 10).overwritten(SUMMARY_BYTES);

/// Maximum length of the reason in the summary, in characters.
const MAX_REASON_CHARS: usize = 300;

/// How often the journal is told of a state that lasts.
const JOURNAL_INTERVAL: SignedDuration = SignedDuration::from_hours(1);

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
    /// What the journal was last told of a state that lasts; `null`: nothing since the host was last converged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journalled: Option<JournalledState>,
    /// It could not run, and so says nothing about the host.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub could_not_run: bool,
}

/// A state of the host that the journal has the reason of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JournalledState {
    pub at: Timestamp,
    pub outcome: Exit,
    /// Of its reasons, see [`Report::state_digest`].
    pub digest: String,
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
            // The error itself goes to the journal each time.
            journalled: None,
            could_not_run: true,
        };
        last.save(root)
    }

    /// Whether the store answered this pass.
    pub(crate) fn store_had_answered(&self) -> bool {
        self.store_answered >= Some(self.started)
    }

    fn save(mut self, root: &Root) -> Result<(), RootError> {
        self.why = self
            .why
            .map(|why| match why.char_indices().nth(MAX_REASON_CHARS) {
                Some((end, _)) => format!("{}…", &why[..end]),
                None => why,
            });
        SUMMARY.save(root, &PassSummary::path(), &self)
    }
}

fn awake_ms() -> u64 {
    u64::try_from(clock::monotonic_time().as_millis()).unwrap_or(u64::MAX)
}

impl History<'_> {
    /// The summary of the last pass since boot.
    pub(crate) fn last(&self) -> Option<PassSummary> {
        PassSummary::load(&self.host.root)
    }

    /// Whether the journal has to be told why the host is not converged: it was not since that changed, or not for long.
    /// Whoever looks there has not read what a pass that an operator started printed at a terminal.
    pub(crate) fn is_due_in_journal(&self, report: &Report) -> bool {
        if report.outcome == Exit::Converged {
            return false;
        }
        let Some(journalled) = self.last().and_then(|last| last.journalled) else {
            return true;
        };
        let age = report.started.duration_since(journalled.at);
        let is_recent = !age.is_negative() && age < JOURNAL_INTERVAL;
        !is_recent
            || journalled.outcome != report.outcome
            || journalled.digest != report.state_digest()
    }

    /// Saves the summary of this pass as the last one. `textfile`: path of its metrics; `logged`: its outcome is logged.
    pub(crate) fn save_last(
        &self,
        report: &Report,
        textfile: Option<&Path>,
        logged: bool,
    ) -> Result<(), RootError> {
        let is_journalled = logged && journal::stderr_is_journal();
        self.summary(report, textfile, is_journalled)
            .save(&self.host.root)
    }

    /// `is_journalled`: the journal has the outcome of this pass.
    fn summary(
        &self,
        report: &Report,
        textfile: Option<&Path>,
        is_journalled: bool,
    ) -> PassSummary {
        let before = self.last();
        let before = before.as_ref();
        PassSummary {
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
            journalled: match (report.outcome, is_journalled) {
                (Exit::Converged, _) => None,
                (outcome, true) => Some(JournalledState {
                    at: report.started,
                    outcome,
                    digest: report.state_digest(),
                }),
                (_, false) => before.and_then(|last| last.journalled.clone()),
            },
            could_not_run: false,
        }
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
}

#[cfg(test)]
mod tests {
    use super::super::tests::{report, row};
    use super::super::{ResourceReport, ResourceStatus};
    use super::*;
    use crate::ports::state::testing::assert_round_trip;
    use crate::ports::testing::Sandbox;

    #[test]
    fn example_summary_survives_a_round_trip() {
        assert_round_trip::<PassSummary>(&SUMMARY, "pass-summary.json");
    }

    #[test]
    fn journal_is_told_of_each_new_reason_and_hourly() {
        let sandbox = Sandbox::with_base_system();
        let history = History::new(&sandbox.host);
        let failed = |why: &str, minute: i64| {
            let mut report = report(vec![ResourceReport {
                why: Some(why.into()),
                ..row(ResourceStatus::Failed)
            }]);
            report.started += SignedDuration::from_mins(minute);
            report
        };
        let tell = |report: &Report, journalled: bool| {
            let due = history.is_due_in_journal(report);
            let summary = history.summary(report, None, journalled);
            summary.save(&sandbox.host.root).unwrap();
            due
        };
        assert!(
            tell(&failed("no space\n  | error: disk", 0), false),
            "by hand, at a terminal"
        );
        assert!(
            tell(&failed("no space\n  | error: disk", 1), true),
            "the first of the timer's"
        );
        assert!(!tell(&failed("no space\n  | error: disk", 2), true));
        assert!(!tell(
            &failed("no space\n  | error: disk\n  | at x", 59),
            false
        ));
        assert!(
            tell(&failed("no space\n  | error: disk", 62), true),
            "an hour later"
        );
        assert!(tell(&failed("no key", 63), true), "for another reason");
        assert!(tell(&failed("no key", 3), true), "the clock was set back");
        assert!(!tell(&report(vec![]), true), "it converged");
        assert!(tell(&failed("no key", 64), true), "the same again");
    }
}
