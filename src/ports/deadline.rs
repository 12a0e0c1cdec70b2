//! Time limits for exchanges with a peer that may be slow, silent or gone: one rule for children and servers.

use std::time::{Duration, Instant};

use super::exec::StopFlag;

/// Interval at which a waiting exchange checks the clock and the stop flag.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The time limits of one exchange.
#[derive(Debug, Clone)]
pub(crate) struct Deadline {
    expires_at: Instant,
    timeout: Duration,
    idle_timeout: Duration,
    stop: StopFlag,
}

/// Reason why an exchange was ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DeadlineError {
    #[error("stopped on request")]
    Stopped,
    #[error("not finished within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    #[error("silent for {} s", .0.as_secs_f32())]
    IdleTimedOut(Duration),
}

impl Deadline {
    /// Starts now: `timeout` limits the whole exchange, `idle_timeout` the time without activity, and `stop`
    /// ends it once set.
    pub(crate) fn new(timeout: Duration, idle_timeout: Duration, stop: StopFlag) -> Deadline {
        Deadline {
            expires_at: Instant::now() + timeout,
            timeout,
            idle_timeout,
            stop,
        }
    }

    /// Time left of `timeout`.
    pub(crate) fn remaining(&self) -> Duration {
        self.expires_at.saturating_duration_since(Instant::now())
    }

    /// The limit of the whole exchange.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Time to wait before the next check, given the time of the last activity.
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
        // A wait of zero would be a busy loop.
        Ok((end - now).clamp(Duration::from_millis(1), POLL_INTERVAL))
    }
}

impl From<Duration> for Deadline {
    /// A deadline without an idle timeout or stop flag.
    fn from(timeout: Duration) -> Deadline {
        Deadline::new(timeout, timeout, StopFlag::default())
    }
}
