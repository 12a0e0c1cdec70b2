//! Runs the stages of one release, and records them.
//!
//! The record has every stage and every build step, with its result and duration. Completed ones do not run
//! again: a release that failed or was killed resumes where it stopped.

use jiff::{SignedDuration, Timestamp};

use super::description::{BuildDescription, FILES_STEP, attempt_fingerprint, links_fingerprint};
use super::hooks::{self, HookTiming};
use crate::release::app::stage::Stage;
use crate::release::deployment::Deployment;
use crate::release::record::ReleaseRecord;
use crate::release::record::entry::{
    LINKS_STEP, ReleaseEntry, ReleaseStatus, StageEntry, StageStatus,
};
use crate::resource::Failure;

/// First wait after several failures in a row; each further failure doubles it.
const MIN_BACKOFF: SignedDuration = SignedDuration::from_secs(60);
/// Longest wait.
const MAX_BACKOFF: SignedDuration = SignedDuration::from_mins(30);

/// The result of a stage that did not fail.
pub(crate) enum StageOutcome {
    Done,
    /// There was nothing to do, for this reason.
    Skipped(String),
}

/// A release in progress, with its record.
pub(crate) struct Attempt<'r, 'd> {
    pub deployment: &'r Deployment<'d>,
    pub record: &'r mut ReleaseRecord,
    pub name: String,
}

impl Attempt<'_, '_> {
    pub(crate) fn entry(&self) -> &ReleaseEntry {
        self.record
            .find(&self.name)
            .expect("an attempt's release is put on record before anything is done for it")
    }

    fn entry_mut(&mut self) -> &mut ReleaseEntry {
        self.record
            .find_mut(&self.name)
            .expect("an attempt's release is put on record before anything is done for it")
    }

    pub(crate) fn save(&self) -> Result<(), Failure> {
        self.record
            .save(self.deployment.host, &self.deployment.layout)
    }

    /// Runs one stage with its hooks, unless it is done with the same `definition`.
    pub(crate) fn run_stage(
        &mut self,
        stage: Stage,
        definition: Option<&str>,
        action: impl FnOnce(&mut Self) -> Result<StageOutcome, Failure>,
    ) -> Result<(), Failure> {
        if self.entry().is_done(stage, None, definition) {
            return Ok(());
        }
        self.deployment.check_stop()?;
        self.run_recorded(stage, None, definition, |attempt| {
            hooks::run(attempt.deployment, &attempt.name, HookTiming::Before, stage)?;
            let done = action(attempt)?;
            hooks::run(attempt.deployment, &attempt.name, HookTiming::After, stage)?;
            Ok(done)
        })
    }

    /// Runs an action and records its result. Saves the record before and after a long action; the next save
    /// includes a short one.
    pub(crate) fn run_recorded(
        &mut self,
        stage: Stage,
        step: Option<&str>,
        definition: Option<&str>,
        action: impl FnOnce(&mut Self) -> Result<StageOutcome, Failure>,
    ) -> Result<(), Failure> {
        let host = self.deployment.host;
        let tick = host.clock.monotonic_now();
        let mut entry = StageEntry {
            stage,
            step: step.map(str::to_owned),
            status: StageStatus::Running,
            began: host.clock.now(),
            took_ms: 0,
            why: None,
            definition: definition.map(str::to_owned),
        };
        let is_long = step.is_some()
            || matches!(stage, Stage::Assets | Stage::Migrate | Stage::Preflight)
            || self.deployment.spec.hooks.has_any(stage.as_str());
        self.entry_mut().put_stage(entry.clone());
        if is_long {
            self.save()?;
        }
        let result = action(self);
        let took = host.clock.monotonic_now().saturating_duration_since(tick);
        entry.took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        match &result {
            Ok(StageOutcome::Done) => entry.status = StageStatus::Done,
            Ok(StageOutcome::Skipped(why)) => {
                entry.status = StageStatus::Skipped;
                entry.why = Some(why.clone());
            }
            // On a stop request nothing failed: the next pass resumes here.
            Err(_) if host.stop.is_set() => {}
            Err(failure) => {
                entry.status = StageStatus::Failed;
                entry.why = Some(failure.summary());
            }
        }
        self.entry_mut().put_stage(entry);
        if is_long && result.is_ok() {
            self.save()?;
        }
        result.map(|_| ())
    }

    /// Records the links and the rendered files of the release, as they are described now.
    pub(crate) fn put_links_and_files(&mut self) {
        let spec = self.deployment.spec;
        let has_links = !spec.links().is_empty();
        let links = has_links.then(|| links_fingerprint(spec));
        let files = BuildDescription::of(spec).files;
        for (step, definition) in [(LINKS_STEP, links), (FILES_STEP, files)] {
            if definition.is_some() {
                self.put_stage(StageEntry {
                    step: Some(step.to_owned()),
                    definition,
                    ..StageEntry::done(Stage::Link, self.deployment.host.clock.now())
                });
            }
        }
    }

    pub(crate) fn put_stage(&mut self, entry: StageEntry) {
        self.entry_mut().put_stage(entry);
    }

    /// Sets the release's state; a complete one resets its count of failures.
    pub(crate) fn set_status(&mut self, status: ReleaseStatus, why: Option<String>) {
        let now = self.deployment.host.clock.now();
        let entry = self.entry_mut();
        (entry.state, entry.why, entry.at) = (status, why, now);
        if status.is_complete() {
            entry.failures = 0;
        }
    }

    /// Records a failure. A complete release stays complete.
    pub(crate) fn record_failure(
        &mut self,
        failure: &Failure,
        give_up: bool,
    ) -> Result<(), Failure> {
        let now = self.deployment.host.clock.now();
        let attempted = attempt_fingerprint(self.deployment.spec);
        let entry = self.entry_mut();
        if !entry.state.is_complete() {
            entry.state = ReleaseStatus::Failed;
        }
        if is_described_anew(entry, &attempted) {
            (entry.failures, entry.given_up) = (0, false);
        }
        entry.failed_as = Some(attempted);
        entry.why = Some(failure.summary());
        entry.at = now;
        entry.failures += 1;
        entry.given_up |= give_up;
        self.save()
    }
}

/// Whether another description than that of its last failure applies. A failure on record without one counts
/// as of the same.
fn is_described_anew(entry: &ReleaseEntry, attempted: &str) -> bool {
    let before = entry.failed_as.as_deref();
    before.is_some_and(|before| before != attempted)
}

/// Why a release is not retried now, if it is not: it failed several times in a row, or was given up, and
/// nothing that describes it has changed since. `attempted`: the fingerprint of its description now.
pub(crate) fn no_retry_reason(
    entry: &ReleaseEntry,
    attempted: &str,
    now: Timestamp,
) -> Option<Failure> {
    if is_described_anew(entry, attempted) {
        return None;
    }
    let why = entry.why.as_deref().unwrap_or("no reason on record");
    if entry.given_up {
        return Some(
            Failure::new(format!("release {} was abandoned: {why}", entry.name))
                .hint("publish another sha, or try this one again with `trueup converge`"),
        );
    }
    let again = entry.at + backoff(entry.failures)?;
    // A clock that was set back must not delay the retry for a year.
    let is_waiting = now < again && entry.at <= now;
    is_waiting.then(|| {
        Failure::new(format!(
            "release {} failed {} times in a row: {why}",
            entry.name, entry.failures
        ))
        .hint(format!(
            "next retry at {again:.0}, or now with `trueup converge`"
        ))
    })
}

/// The wait after this many failures in a row. After the first one, the next pass retries.
fn backoff(failures: u32) -> Option<SignedDuration> {
    let doublings = failures.checked_sub(2)?;
    let factor = 2_i32.saturating_pow(doublings.min(20));
    Some((MIN_BACKOFF * factor).min(MAX_BACKOFF))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Sha;

    #[test]
    fn retry_backoff_starts_after_the_second_failure_and_is_capped() {
        let minutes = |failures| backoff(failures).map(|pause| pause.as_secs() / 60);
        assert_eq!((minutes(0), minutes(1)), (None, None));
        assert_eq!(
            (minutes(2), minutes(3), minutes(4)),
            (Some(1), Some(2), Some(4))
        );
        assert_eq!((minutes(9), minutes(u32::MAX)), (Some(30), Some(30)));
    }

    #[test]
    fn clock_set_back_delays_no_retry() {
        let sha = Sha::parse(&"4f2c9d0e".repeat(5)).unwrap();
        let at: Timestamp = "2026-11-21T05:00:00Z".parse().unwrap();
        let mut entry = ReleaseEntry::new("r", &sha, at);
        entry.failures = 3;
        let after = |seconds| {
            no_retry_reason(&entry, "now", at + SignedDuration::from_secs(seconds)).is_some()
        };
        assert!(after(0) && after(119));
        assert!(!after(120) && !after(-5));
    }
}
