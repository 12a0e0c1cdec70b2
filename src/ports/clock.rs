//! The clock, so that time is an argument everywhere else.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

/// Tells the time.
pub trait Clock {
    /// The wall clock, as set on the host. May jump.
    fn now(&self) -> Timestamp;
    /// For measuring how long something takes. Never jumps.
    fn monotonic_now(&self) -> Instant;
}

/// The host's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic_now(&self) -> Instant {
        Instant::now()
    }
}

/// How long the host has been up and awake. Nobody can set it, it is the same for all processes, and it
/// stands still while the host sleeps, as the timers of systemd do.
pub fn monotonic_time() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}
