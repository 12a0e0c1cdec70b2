//! Finds the processes of a service in `/proc`.
//!
//! Every started service has a mark in its environment and its own log as output. By these it is found
//! again when no saved state names it.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::launch_stage::wait_for_exec;
pub(super) use crate::ports::services::live_process::{
    LiveProcess, boot_id, started_at, ticks_since_boot,
};

/// The variable with the mark: which service, of which sandbox, a process belongs to.
pub(super) const SERVICE_VARIABLE: &str = "TRUEUP_SERVICE";

/// The variable with the id of the service's main process.
pub(super) const MAIN_PID_VARIABLE: &str = "TRUEUP_MAIN_PID";

impl LiveProcess {
    fn all() -> impl Iterator<Item = LiveProcess> {
        fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(LiveProcess::find)
    }

    fn environment(&self) -> Vec<u8> {
        fs::read(format!("/proc/{}/environ", self.pid)).unwrap_or_default()
    }

    /// Whether the process or an ancestor of it was started as this service.
    fn belongs_to(&self, mark: &str, log: &Path) -> bool {
        // Programs that rewrite their title may overwrite their environment: hence also the log.
        has_variable(&self.environment(), SERVICE_VARIABLE, mark)
            || (1..=2).any(|fd| {
                fs::read_link(format!("/proc/{}/fd/{fd}", self.pid))
                    .is_ok_and(|target| target.as_os_str().as_bytes() == log.as_os_str().as_bytes())
            })
    }

    fn is_main(&self, mark: &str) -> bool {
        let environment = self.environment();
        has_variable(&environment, SERVICE_VARIABLE, mark)
            && has_variable(&environment, MAIN_PID_VARIABLE, &self.pid.to_string())
    }

    /// The words of the command line, as bytes separated by NULs.
    pub(super) fn command_line(pid: i32) -> Vec<u8> {
        fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()
    }
}

fn has_variable(environment: &[u8], name: &str, value: &str) -> bool {
    let wanted = format!("{name}={value}");
    environment
        .split(|byte| *byte == 0)
        .any(|entry| entry == wanted.as_bytes())
}

/// The main process of a service without saved state.
pub(super) fn find_orphan(mark: &str, log: &Path) -> Option<LiveProcess> {
    let leaders: Vec<LiveProcess> = LiveProcess::all()
        .filter(|process| process.session_id == process.pid && process.belongs_to(mark, log))
        .filter_map(|process| wait_for_exec(process.pid))
        .collect();
    let marked = leaders.iter().find(|process| process.is_main(mark));
    let logging = || leaders.iter().min_by_key(|process| process.start_time);
    marked.or_else(logging).copied()
}

/// Every process of a session.
pub(super) fn list_session(id: i32) -> Vec<LiveProcess> {
    LiveProcess::all()
        .filter(|process| process.session_id == id)
        .collect()
}

/// The processes of this service in a session whose leader has ended.
pub(super) fn list_orphaned_session(id: i32, mark: &str, log: &Path) -> Vec<LiveProcess> {
    let mut orphans = list_session(id);
    orphans.retain(|process| process.belongs_to(mark, log));
    orphans
}

/// How our child ended; `None` if it has not, or is not our child. Frees its id.
pub(super) fn reap(pid: i32) -> Option<String> {
    match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(_, code)) => Some(format!("exited with {code}")),
        Ok(WaitStatus::Signaled(_, signal, _)) => Some(format!("was killed by {signal}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use nix::sys::signal::{Signal, kill};

    use super::*;
    use crate::ports::exec::{Command, Exec};

    #[test]
    fn start_time_is_later_than_an_earlier_timestamp() {
        let before = Timestamp::now();
        let pid = Exec.spawn_detached(Command::new(["sleep", "60"])).unwrap();
        let living = LiveProcess::find(pid as i32).unwrap();
        assert!(started_at(living.start_time).unwrap() > before);
        kill(Pid::from_raw(living.pid), Signal::SIGKILL).unwrap();
        // A killed child is a zombie until `reap`; `find` must not return it.
        while LiveProcess::find(living.pid).is_some() {
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(reap(living.pid).as_deref(), Some("was killed by SIGKILL"));
    }
}
