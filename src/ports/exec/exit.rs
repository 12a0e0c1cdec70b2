//! How a child ended, and what it printed.

use std::time::Duration;

use super::output::Output;
use crate::ports::deadline::DeadlineError;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitReason {
    Exited(i32),
    /// Killed by this signal, which trueup did not send.
    Signalled(i32),
    /// It was killed when the machine, or what limits the memory of trueup, had no memory left.
    OutOfMemory,
    /// trueup killed it at its deadline.
    TimedOut(Duration),
    /// Its exit status is unknown: another process traces it and withholds the status.
    HeldByTracer,
    /// trueup killed it, because trueup was asked to stop.
    Stopped,
}

impl From<DeadlineError> for ExitReason {
    fn from(error: DeadlineError) -> ExitReason {
        match error {
            DeadlineError::Stopped => ExitReason::Stopped,
            DeadlineError::TimedOut(limit) | DeadlineError::IdleTimedOut(limit) => {
                ExitReason::TimedOut(limit)
            }
        }
    }
}

impl std::fmt::Display for ExitReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ExitReason::Exited(code) => write!(f, "exited with {code}"),
            ExitReason::Signalled(signal) => {
                let name = nix::sys::signal::Signal::try_from(*signal)
                    .map_or_else(|_| signal.to_string(), |signal| signal.to_string());
                write!(f, "was killed by {name}")
            }
            ExitReason::OutOfMemory => write!(f, "was killed: out of memory"),
            ExitReason::TimedOut(limit) => write!(
                f,
                "was killed: not finished within its timeout of {} s",
                limit.as_secs_f32()
            ),
            ExitReason::HeldByTracer => write!(
                f,
                "has exited, but another process traces it and withholds its exit status (`ps` shows it as `defunct`, TracerPid in /proc/PID/status names the tracer)"
            ),
            ExitReason::Stopped => write!(f, "was killed: trueup was asked to stop"),
        }
    }
}

/// How often the kernel killed a process for want of memory, since boot.
pub(super) fn oom_kills() -> Option<u64> {
    let counters = std::fs::read_to_string("/proc/vmstat").ok()?;
    let mut lines = counters.lines();
    lines.find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
}

impl ExitReason {
    /// Whether SIGKILL ended it, or a child of its shell, which exits with the number of the signal then.
    pub(super) fn is_kill(self) -> bool {
        const SIGKILL: i32 = 9;
        const BY_SIGNAL: i32 = 128;
        matches!(self, ExitReason::Signalled(SIGKILL))
            || self == ExitReason::Exited(BY_SIGNAL + SIGKILL)
    }
}

/// A child that has ended, together with its whole group.
#[derive(Debug)]
pub(crate) struct CompletedCommand {
    pub exit_reason: ExitReason,
    /// Standard output and error, interleaved as they arrived.
    pub output: Output,
}

impl CompletedCommand {
    pub(crate) fn success(&self) -> bool {
        self.exit_reason == ExitReason::Exited(0)
    }
}
