//! How long to talk with somebody who may be slow, silent or gone: one rule for children and servers.

use std::time::{Duration, Instant};

use super::exec::StopFlag;

/// How often a talk that waits looks at the clock and at whether trueup was told to stop.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The bounds of one talk.
#[derive(Debug, Clone)]
pub struct Deadline {
    expires_at: Instant,
    timeout: Duration,
    idle_timeout: Duration,
    stop: StopFlag,
}

/// Why a talk was given up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeadlineError {
    #[error("stopped on request")]
    Stopped,
    #[error("not finished within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    #[error("silent for {} s", .0.as_secs_f32())]
    IdleTimedOut(Duration),
}

impl Deadline {
    /// From now on: `timeout` for all of it, `silence` without a sign of life, and an end as soon as
    /// `stop` is set.
    pub fn new(timeout: Duration, idle_timeout: Duration, stop: StopFlag) -> Deadline {
        Deadline {
            expires_at: Instant::now() + timeout,
            timeout,
            idle_timeout,
            stop,
        }
    }

    /// What is left of the time for all of it.
    pub fn remaining(&self) -> Duration {
        self.expires_at.saturating_duration_since(Instant::now())
    }

    /// How long to wait before looking again, when the last sign of life was at `heard`.
    pub(super) fn next_wait(&self, last_activity: Instant) -> Result<Duration, DeadlineError> {
        let now = Instant::now();
        if self.stop.is_set() {
            return Err(DeadlineError::Stopped);
        }
        if now >= self.expires_at {
            return Err(DeadlineError::TimedOut(self.timeout));
        }
        if now >= last_activity + self.idle_timeout {
            return Err(DeadlineError::IdleTimedOut(self.idle_timeout));
        }
        let end = self.expires_at.min(last_activity + self.idle_timeout);
        // A wait of nothing would be a busy loop.
        Ok((end - now).clamp(Duration::from_millis(1), POLL_INTERVAL))
    }
}

impl From<Duration> for Deadline {
    /// Nothing but a deadline.
    fn from(timeout: Duration) -> Deadline {
        Deadline::new(timeout, timeout, StopFlag::default())
    }
}
