//! How far a process is on its way to the service that it was started for.

use std::time::{Duration, Instant};

use super::processes::LiveProcess;

/// Maximum time from the pipe to the exec of the service's program.
pub(super) const EXEC_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum time without a command line, during exec or exit.
pub(super) const NO_COMMAND_LINE_TIMEOUT: Duration = Duration::from_secs(1);

/// The process `pid` once it runs the service; `None` if it has ended.
///
/// A blocked process soon becomes one or the other: the trueup that started it unblocks it, or was killed
/// and so closed the pipe. Counting it as the service would lose a start; counting it as ended could start
/// the service twice.
pub(super) fn wait_for_exec(pid: i32) -> Option<LiveProcess> {
    let started = Instant::now();
    loop {
        let living = LiveProcess::find(pid)?;
        match launch_stage(pid) {
            LaunchStage::Executed => return Some(living),
            // A program may have erased its own command line.
            LaunchStage::NoCommandLine if started.elapsed() > NO_COMMAND_LINE_TIMEOUT => {
                return Some(living);
            }
            LaunchStage::Blocked if started.elapsed() > EXEC_TIMEOUT => return None,
            _ => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// Progress of a process that was started to become a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LaunchStage {
    Blocked,
    /// No command line: the kernel is just executing another program in it, or ending it.
    NoCommandLine,
    Executed,
}

/// Reads the progress of a process from its command line.
pub(super) fn launch_stage(pid: i32) -> LaunchStage {
    let line = LiveProcess::command_line(pid);
    let script = line.split(|byte| *byte == 0).nth(2);
    match script {
        _ if line.is_empty() => LaunchStage::NoCommandLine,
        Some(script) if script.starts_with(BLOCKED_SCRIPT_PREFIX.as_bytes()) => {
            LaunchStage::Blocked
        }
        _ => LaunchStage::Executed,
    }
}

/// Start of the script in a blocked process.
pub(super) const BLOCKED_SCRIPT_PREFIX: &str = "read -r go <&";
