//! The clock, so that time is an argument everywhere else.

use std::time::Instant;

use jiff::Timestamp;

/// Tells the time.
pub trait Clock {
    /// The wall clock, as set on the host. May jump.
    fn now(&self) -> Timestamp;
    /// For measuring how long something takes. Never jumps.
    fn tick(&self) -> Instant;
}

/// The host's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn tick(&self) -> Instant {
        Instant::now()
    }
}
