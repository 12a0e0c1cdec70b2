//! How long to talk with somebody who may be slow, silent or gone: one rule for children and servers.

use std::time::{Duration, Instant};

use super::exec::StopFlag;

/// How often a talk that waits looks at the clock and at whether trueup was told to stop.
const LOOK: Duration = Duration::from_millis(100);

/// The bounds of one talk.
#[derive(Debug, Clone)]
pub struct Patience {
    until: Instant,
    timeout: Duration,
    silence: Duration,
    stop: StopFlag,
}

/// Why a talk was given up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GivenUp {
    #[error("stopped on request")]
    Stopped,
    #[error("not finished within {} s", .0.as_secs_f32())]
    Late(Duration),
    #[error("silent for {} s", .0.as_secs_f32())]
    Silent(Duration),
}

impl Patience {
    /// From now on: `timeout` for all of it, `silence` without a sign of life, and an end as soon as
    /// `stop` is set.
    pub fn new(timeout: Duration, silence: Duration, stop: StopFlag) -> Patience {
        Patience {
            until: Instant::now() + timeout,
            timeout,
            silence,
            stop,
        }
    }

    /// What is left of the time for all of it.
    pub fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// How long to wait before looking again, when the last sign of life was at `heard`.
    pub(super) fn wait(&self, heard: Instant) -> Result<Duration, GivenUp> {
        let now = Instant::now();
        if self.stop.is_set() {
            return Err(GivenUp::Stopped);
        }
        if now >= self.until {
            return Err(GivenUp::Late(self.timeout));
        }
        if now >= heard + self.silence {
            return Err(GivenUp::Silent(self.silence));
        }
        let end = self.until.min(heard + self.silence);
        // A wait of nothing would be a busy loop.
        Ok((end - now).clamp(Duration::from_millis(1), LOOK))
    }
}

impl From<Duration> for Patience {
    /// Nothing but a deadline.
    fn from(timeout: Duration) -> Patience {
        Patience::new(timeout, timeout, StopFlag::default())
    }
}
