//! A running process, read from `/proc`.
//!
//! Identified by its id *and* its start time, so that a reused id never matches.

use std::fs;
use std::time::Duration;

use jiff::Timestamp;
use nix::unistd::{SysconfVar, sysconf};

use super::kernel_clock;

/// A process that exists and is not a zombie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ports) struct LiveProcess {
    pub(in crate::ports) pid: i32,
    pub(in crate::ports) session_id: i32,
    /// In clock ticks since boot.
    pub(in crate::ports) start_time: u64,
}

impl LiveProcess {
    pub(in crate::ports) fn find(pid: i32) -> Option<LiveProcess> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may contain anything; the fields after it contain no parenthesis.
        let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
        if matches!(*fields.first()?, "Z" | "X" | "x") {
            return None;
        }
        Some(LiveProcess {
            pid,
            session_id: fields.get(3)?.parse().ok()?,
            start_time: fields.get(19)?.parse().ok()?,
        })
    }
}

/// Wall-clock time of a process start at `start` ticks.
///
/// The kernel rounds start times down to a tick (1/100 s). This returns the *end* of that tick, so that a
/// service started after a file was written is never older than the file, which would cause a restart in
/// every pass. The price: a file written within the same tick, after the start, goes unnoticed.
pub(in crate::ports) fn started_at(start: u64) -> Option<Timestamp> {
    let nanos = (u128::from(start) + 1) * 1_000_000_000 / u128::from(ticks_per_second());
    kernel_clock::from_boottime(Duration::from_nanos(u64::try_from(nanos).ok()?))
}

/// Changes with every boot.
pub(super) fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// The current time in the ticks of process start times.
pub(super) fn ticks_since_boot() -> u64 {
    let second = u128::from(ticks_per_second());
    u64::try_from(kernel_clock::uptime().as_nanos() * second / 1_000_000_000).unwrap_or(u64::MAX)
}

/// CPU times are counted in the same ticks.
pub(in crate::ports) fn duration_of_ticks(ticks: u64) -> Duration {
    let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(ticks_per_second());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn ticks_per_second() -> u64 {
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten();
    ticks
        .and_then(|ticks| u64::try_from(ticks).ok())
        .unwrap_or(100)
}
