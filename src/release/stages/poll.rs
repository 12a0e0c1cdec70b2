//! Polls of a release on trial, until they prove it.

use std::time::{Duration, Instant};

use crate::ports::{Host, backoff};
use crate::release::app::spec::{POLL_INTERVAL, ReleaseSpec};
use crate::resource::{Failure, FailureKind, TrialOutcome};

/// When polls are enough.
pub(super) struct PollTiming {
    pub(super) deadline: Duration,
    /// How many have to succeed in a row.
    pub(super) times: u32,
    /// The time between two that do.
    pub(super) every: Duration,
    /// How long they have to succeed. While they do, the deadline does not count: on a slow host few polls fit in a second.
    pub(super) uptime: Duration,
}

impl PollTiming {
    /// As the spec says for its health check; `every`: the time between two polls instead.
    pub(super) fn of_gate(spec: &ReleaseSpec, every: impl Into<Option<Duration>>) -> PollTiming {
        let (deadline, times, health_interval) = spec.gate_timing();
        PollTiming {
            deadline,
            times,
            every: every.into().unwrap_or(health_interval),
            uptime: Duration::ZERO,
        }
    }
}

/// Polls `check` until it succeeded often enough in a row, failed for good, or the time limit has passed.
pub(super) fn poll_until_proven(
    timing: &PollTiming,
    host: &Host,
    fail_after: Duration,
    check: &mut dyn FnMut() -> Result<(), Failure>,
) -> TrialOutcome {
    let PollTiming {
        deadline,
        times,
        every,
        uptime,
    } = *timing;
    let started = host.clock.monotonic_now();
    let mut in_a_row = 0;
    let mut up_since = None;
    let mut conflict = None;
    let mut permanent = PermanentFailures::new(fail_after);
    loop {
        if host.stop.is_set() {
            return TrialOutcome::Stopped;
        }
        let failure = check().err();
        match &failure {
            None => in_a_row += 1,
            Some(failure) => {
                (in_a_row, up_since) = (0, None);
                // An app that found its port taken may continue without it after the port is free again.
                if failure.is(FailureKind::Conflict) {
                    conflict = Some(failure.clone());
                }
            }
        }
        let now = host.clock.monotonic_now();
        if failure.is_none() {
            let since = *up_since.get_or_insert(now);
            if in_a_row >= times && now.saturating_duration_since(since) >= uptime {
                return TrialOutcome::Passed;
            }
        }
        if let Some(failure) = permanent.add(failure.as_ref(), now) {
            return TrialOutcome::Failed(failure);
        }
        let may_pass_yet = failure.is_none() && !uptime.is_zero();
        if now.saturating_duration_since(started) >= deadline && !may_pass_yet {
            let failure = failure.unwrap_or_else(|| {
                Failure::new(format!(
                    "only {in_a_row} of {times} consecutive checks passed"
                ))
            });
            return unproven(conflict.unwrap_or(failure), deadline);
        }
        // A failed poll may succeed in a moment; a success has to last for a while.
        backoff::sleep(match failure {
            Some(_) => every.min(POLL_INTERVAL),
            None => every,
        });
    }
}

/// Polls in a row that found what does not pass by waiting.
pub(super) struct PermanentFailures {
    limit: Duration,
    since: Option<Instant>,
    polls: u32,
}

impl PermanentFailures {
    pub(super) fn new(limit: Duration) -> PermanentFailures {
        PermanentFailures {
            limit,
            since: None,
            polls: 0,
        }
    }

    /// Counts a poll; returns its failure once there were enough.
    pub(super) fn add(&mut self, failure: Option<&Failure>, now: Instant) -> Option<Failure> {
        let Some(failure) = failure.filter(|failure| failure.is(FailureKind::Permanent)) else {
            *self = PermanentFailures::new(self.limit);
            return None;
        };
        let since = *self.since.get_or_insert(now);
        self.polls += 1;
        let lasted = now.saturating_duration_since(since);
        (lasted >= self.limit && self.polls >= MIN_PERMANENT_POLLS).then(|| failure.clone())
    }
}

/// How many polls in a row have to find a permanent failure: one may meet the app in the middle of its boot.
const MIN_PERMANENT_POLLS: u32 = 3;

/// The outcome of a trial that was not proven in time, because of `failure`.
fn unproven(failure: Failure, deadline: Duration) -> TrialOutcome {
    let context = format!("gate not passed within {} s", deadline.as_secs());
    let failure = failure.with_context(&context);
    match failure.is(FailureKind::Conflict) {
        true => TrialOutcome::Conflict(failure),
        false => TrialOutcome::Failed(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::clock::{Clock, SystemClock};

    #[test]
    fn only_permanent_failures_in_a_row_end_a_trial() {
        let limit = Duration::from_secs(5);
        let wrong = Failure::permanent("answered 500");
        let not_yet = Failure::new("does not answer");
        let start = SystemClock.monotonic_now();
        let at = |seconds| start + Duration::from_secs(seconds);

        let mut failures = PermanentFailures::new(limit);
        for second in 0..60 {
            let poll = [Some(&wrong), Some(&wrong), None, Some(&not_yet)][second as usize % 4];
            assert_eq!(failures.add(poll, at(second)), None, "{second}");
        }
        let mut failures = PermanentFailures::new(limit);
        assert_eq!(failures.add(Some(&wrong), at(0)), None);
        assert_eq!(failures.add(Some(&wrong), at(6)), None, "two polls");
        assert_eq!(failures.add(Some(&wrong), at(7)), Some(wrong.clone()));
    }
}
