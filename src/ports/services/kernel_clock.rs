//! Converts moments on the kernel's clocks to wall-clock time, with the wall clock as it is set now.
//!
//! A supervisor records starts on a clock that nobody can set. So the age of a start is certain, whatever
//! happened to the wall clock since, and comparable with the times of files written from now on, which
//! follow the wall clock as it is now.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nix::time::{ClockId, clock_gettime};

/// Converts `moment` of CLOCK_MONOTONIC (systemd's choice).
pub(super) fn from_monotonic(moment: Duration) -> Option<Timestamp> {
    to_wall_clock(ClockId::CLOCK_MONOTONIC, moment)
}

/// Converts `moment` since boot, suspended time included (the clock of process start times).
pub(super) fn from_boottime(moment: Duration) -> Option<Timestamp> {
    to_wall_clock(ClockId::CLOCK_BOOTTIME, moment)
}

/// Time since boot, suspended time included.
pub(super) fn uptime() -> Duration {
    read_clock(ClockId::CLOCK_BOOTTIME).unwrap_or_default()
}

fn to_wall_clock(clock: ClockId, moment: Duration) -> Option<Timestamp> {
    let wall = Timestamp::now();
    let ago = SignedDuration::try_from(read_clock(clock)?).ok()?
        - SignedDuration::try_from(moment).ok()?;
    wall.checked_sub(ago).ok()
}

fn read_clock(clock: ClockId) -> Option<Duration> {
    clock_gettime(clock).ok().map(Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boottime_converts_to_wall_clock_time() {
        let minute = Duration::from_secs(60);
        let before = Timestamp::now();
        let ago = from_boottime(uptime() - minute).unwrap();
        let after = Timestamp::now();
        let slack = SignedDuration::from_secs(2);
        let minute = SignedDuration::from_secs(60);
        assert!(ago >= before - minute - slack && ago <= after - minute + slack);
    }
}
