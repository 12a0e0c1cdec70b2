//! Commands that run beside the services for a while, such as a trial start of an app.

use std::ffi::OsString;
use std::time::Duration;

use crate::ports::exec::Command;

/// What a command that runs beside the services may do.
#[derive(Debug)]
pub(crate) struct TransientUnit {
    /// Without suffix. Only one of this name runs at a time.
    pub name: String,
    pub description: String,
    /// A limit in bytes.
    pub memory: Option<u64>,
    /// The unit ends after this time even if trueup was killed.
    pub max_runtime: Duration,
}

/// How a command in a transient unit ended, other than by [`Services::stop_transient`](super::Services::stop_transient).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TransientEnd {
    /// It ran, and there is nothing more to say than its exit status.
    Exited,
    /// It ran and failed, for this reason.
    Failed {
        /// For example `its main process was killed by signal 9`.
        why: String,
        /// By SIGKILL or for want of memory, which may have a cause outside.
        was_killed: bool,
    },
    /// The unit was not started.
    NotStarted,
}

/// Makes a plain child the first process that the kernel kills when memory is short.
pub(super) fn prefer_to_kill(mut command: Command) -> Command {
    let wrapper = "echo 1000 > /proc/self/oom_score_adj; exec \"$@\"";
    let wrapper = ["/bin/sh", "-c", wrapper, "transient"].map(OsString::from);
    command.argv.splice(0..0, wrapper);
    command
}
