//! The clock, injected so that all other code takes the time as an argument.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

/// Source of the current time.
pub(crate) trait Clock {
    /// The host's wall clock. May jump.
    fn now(&self) -> Timestamp;
    /// For measuring durations. Never jumps.
    fn monotonic_now(&self) -> Instant;
}

/// The host's clock.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic_now(&self) -> Instant {
        Instant::now()
    }
}

/// Time since boot, with the time in suspend: for how old an observation is. Nobody can set it.
pub(crate) fn boot_time() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// Time since boot without time in suspend. Nobody can set it, it is the same for all processes, and it stops
/// during suspend like systemd's timers.
pub(crate) fn monotonic_time() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}
