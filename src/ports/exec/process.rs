//! A child process from its fork until it is reaped.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// Time for a child to end after SIGKILL.
const KILL_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 10 });

/// Children that were killed and have not ended.
static UNREAPED: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// A child. Dropping this value kills its whole group, unless the child was reaped or disowned.
///
/// Its pid, which is also its group id, cannot be reused until it is reaped.
#[derive(Debug)]
pub(super) struct ChildProcess {
    pid: Pid,
    /// For messages.
    line: String,
    owned: bool,
}

impl ChildProcess {
    pub(super) fn new(pid: Pid, line: String) -> ChildProcess {
        let mut unreaped = UNREAPED.lock().unwrap_or_else(|broken| broken.into_inner());
        unreaped.retain(|pid| matches!(reap(*pid), Ok(None)));
        ChildProcess {
            pid,
            line,
            owned: true,
        }
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether it has ended. It can still be reaped, and its group can still be signalled.
    pub(super) fn has_ended(&self) -> io::Result<bool> {
        // SAFETY: a struct that is valid when zeroed, and a pointer to it for the length of the call.
        unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let id = self.pid.as_raw().cast_unsigned();
            let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            match libc::waitid(libc::P_PID, id, &mut info, options) {
                0 => Ok(info.si_pid() != 0),
                _ => Err(io::Error::last_os_error()),
            }
        }
    }

    /// Whether it has ended without a notification to trueup: the kernel notifies its tracer first, and the
    /// tracer may never collect it.
    pub(super) fn is_held_by_tracer(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid));
        let status = status.unwrap_or_default();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let has_ended = field("State:").is_some_and(|state| state.trim().starts_with('Z'));
        let is_traced = field("TracerPid:").is_some_and(|tracer| tracer.trim() != "0");
        has_ended && is_traced && matches!(self.has_ended(), Ok(false))
    }

    /// Sends a signal to its whole group.
    pub(super) fn signal(&self, signal: Signal) {
        if self.owned {
            let _ = killpg(self.pid, signal);
        }
    }

    /// Reaps it if it has ended, without touching the rest of its group.
    pub(super) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let reaped = reap(self.pid);
        self.owned = matches!(reaped, Ok(None));
        reaped
    }

    /// Kills the rest of its group, and reaps it. `None`: it does not end even after SIGKILL, and nothing
    /// waits for it any longer.
    pub(super) fn kill_and_reap(&mut self) -> io::Result<Option<ExitStatus>> {
        if !self.owned {
            return Ok(None);
        }
        self.signal(Signal::SIGKILL);
        // It may not have created its group yet.
        let _ = kill(self.pid, Signal::SIGKILL);
        let killed = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(Some(status));
            }
            if killed.elapsed() >= KILL_TIMEOUT || self.is_held_by_tracer() {
                break;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        tracing::warn!(
            "`{}` was killed but still exists as process {}: its filesystem or disk does not respond (state D in `ps`), or another process traces it (`grep TracerPid /proc/{}/status`); trueup no longer waits for it",
            self.line,
            self.pid,
            self.pid
        );
        let mut unreaped = UNREAPED.lock().unwrap_or_else(|broken| broken.into_inner());
        unreaped.push(self.disown());
        Ok(None)
    }

    /// Lets it continue without trueup.
    pub(super) fn disown(&mut self) -> Pid {
        self.owned = false;
        self.pid
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        let _ = self.kill_and_reap();
    }
}

fn reap(pid: Pid) -> io::Result<Option<ExitStatus>> {
    let mut status = 0;
    // SAFETY: a pointer to a local value for the length of the call.
    match unsafe { libc::waitpid(pid.as_raw(), &mut status, libc::WNOHANG) } {
        0 => Ok(None),
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(Some(ExitStatus::from_raw(status))),
    }
}
