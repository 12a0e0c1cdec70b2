//! The services port: status, start, stop, restart and reload of the host's services.

#[cfg(test)]
mod conformance;
#[cfg(test)]
pub(crate) mod fake;
mod kernel_clock;
mod live_process;
mod log_file;
mod name;
mod process;
mod service_manager;
mod supervisor;
mod systemd;
mod transient;

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::exec::Command;

pub(super) use live_process::{LiveProcess, duration_of_ticks, started_at};
pub(crate) use process::ProcessServices;
pub(crate) use service_manager::{ManagedBy, ServiceManager, open, supervisor, timer};
pub(crate) use supervisor::SupervisorServices;
pub(crate) use systemd::SystemdServices;
pub(crate) use transient::{TransientEnd, TransientUnit};

/// The state of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ActiveState {
    Running,
    /// Activating, or waiting for its supervisor to restart it.
    Starting,
    Stopping,
    Stopped,
    /// It ended by itself, and its supervisor counts that as a failure.
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EnabledState {
    Yes,
    No,
    /// Neither: it has no install section, or is generated, transient or indirect.
    Static,
    /// An operator disabled every start of it.
    Masked,
}

/// The current status of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceStatus {
    /// The supervisor has a definition of it. If false, the other fields mean nothing.
    pub known: bool,
    pub active: ActiveState,
    pub enabled: EnabledState,
    /// Its definition says that it stops when its work is done: a oneshot unit.
    pub ends_by_itself: bool,
    pub main_pid: Option<u32>,
    /// Identifies this run: changes with every start or restart, by an operator or by the supervisor.
    pub run_id: Option<String>,
    /// Start of this run, by the wall clock as it is set *now* (so that it compares with file times even if
    /// the clock was corrected since).
    pub started_at: Option<Timestamp>,
    /// Time of the last reload, if the supervisor records it.
    pub reloaded_at: Option<Timestamp>,
    /// Identifies the last reload: changes with every reload and only then. (The time is calculated at each
    /// call and so is never exactly the same twice.)
    pub reload_id: Option<String>,
    pub can_reload: bool,
    /// Whether it is loading its configuration now; `None`: it gives no signal.
    pub reloading: Option<bool>,
    /// The definition on disk is newer than the one that the supervisor has loaded.
    pub stale_definition: bool,
    /// The file that the supervisor loaded the definition from, if it reports that.
    pub definition_file: Option<PathBuf>,
    /// The files that the supervisor itself opens to start the service, with all of its privilege.
    pub environment_files: Vec<PathBuf>,
    /// How its last run failed, if it did and the supervisor reports that.
    pub last_failure: Option<String>,
    /// Number of automatic restarts after a crash since the last explicit start; 0 if the supervisor does not
    /// count them.
    pub restarts: u32,
}

impl ServiceStatus {
    /// The status for a name without a definition.
    fn unknown() -> ServiceStatus {
        ServiceStatus {
            known: false,
            active: ActiveState::Stopped,
            enabled: EnabledState::No,
            ends_by_itself: false,
            main_pid: None,
            run_id: None,
            started_at: None,
            reloaded_at: None,
            reload_id: None,
            can_reload: false,
            reloading: None,
            stale_definition: false,
            definition_file: None,
            environment_files: Vec::new(),
            last_failure: None,
            restarts: 0,
        }
    }
}

/// The next start of a service by its timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NextTrigger {
    At(Timestamp),
    /// The service runs; the timer counts the next start from its end.
    Underway,
    /// The timer exists but starts nothing: it was stopped, or has nothing left to do.
    Off,
}

/// The status of a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timer {
    pub next: NextTrigger,
    /// False if it is disabled and off, so that no run is expected.
    pub expected: bool,
    /// Interval from one start, or from its end, to the next; `None` if unknown.
    pub period: Option<Duration>,
    /// How much later than planned a start may come.
    pub max_delay: Duration,
    /// Since when it is active, on the clock of [`crate::ports::clock::monotonic_time`].
    pub active_since: Option<Duration>,
}

/// What a timer starts, and how that ended last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ScheduledJob {
    pub next: NextTrigger,
    /// When the timer last started it.
    pub last_started: Option<Timestamp>,
    pub is_running: bool,
    /// Why its last run failed, if it did.
    pub failure: Option<String>,
}

/// Why a service operation failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    #[error("there is no service `{name}`: {hint}")]
    Unknown { name: String, hint: String },
    /// The supervisor itself does not answer.
    #[error("{supervisor} does not answer: {why}")]
    Unreachable {
        supervisor: &'static str,
        why: String,
    },
    /// The user who runs trueup may not ask it.
    #[error("only root can ask {supervisor}: {why}")]
    PermissionDenied {
        supervisor: &'static str,
        why: String,
    },
    /// `log` contains the last lines that the service printed, newest last; may be empty.
    #[error("{verb} of {name} failed: {why}")]
    Failed {
        verb: &'static str,
        name: String,
        why: String,
        log: Vec<String>,
    },
    #[error("{verb} of {name} timed out after {seconds} s")]
    TimedOut {
        verb: &'static str,
        name: String,
        seconds: u64,
    },
}

impl ServiceError {
    fn failed(verb: &'static str, name: &str, why: impl Into<String>) -> ServiceError {
        ServiceError::Failed {
            verb,
            name: name.to_owned(),
            why: why.into(),
            log: Vec::new(),
        }
    }

    fn with_log(mut self, lines: Vec<String>) -> ServiceError {
        if let ServiceError::Failed { log, .. } = &mut self {
            *log = lines;
        }
        self
    }
}

/// What to read of a log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogRange {
    /// How many of the lines that are there.
    pub lines: u32,
    /// Also what is printed from now on.
    pub follow: bool,
}

/// The log of one process of a service, or of all.
pub(crate) struct ServiceLog {
    /// Whose it is, in the service manager.
    pub name: String,
    pub reader: Box<dyn LogReader>,
}

/// What one read of a log brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LogRead {
    Bytes(Vec<u8>),
    /// Nothing new yet.
    Pending,
    End,
}

/// An open log.
pub(crate) trait LogReader {
    /// Reads what is there, without waiting for more.
    fn read(&mut self) -> Result<LogRead, ServiceError>;
}

/// A supervisor of services. Every method returns only when the supervisor reports that the action is
/// complete (a started service is up, a stopped one has ended) or has failed, and always within a deadline.
///
/// Names follow the supervisor's conventions; for systemd, `nginx` means `nginx.service`.
pub(crate) trait Services {
    fn status(&self, name: &str) -> Result<ServiceStatus, ServiceError>;
    fn start(&self, name: &str) -> Result<(), ServiceError>;
    fn stop(&self, name: &str) -> Result<(), ServiceError>;
    /// Stops and starts the service; starts it if it was stopped. Reloads a stale definition first.
    fn restart(&self, name: &str) -> Result<(), ServiceError>;
    fn reload(&self, name: &str) -> Result<(), ServiceError>;
    fn enable(&self, name: &str) -> Result<(), ServiceError>;
    fn disable(&self, name: &str) -> Result<(), ServiceError>;
    /// The ids of its processes, of at least those that have no other of them as ancestor.
    fn process_ids(&self, name: &str) -> Result<Vec<u32>, ServiceError>;
    /// Opens what its processes print: one log, or one for each of them.
    fn open_logs(&self, name: &str, range: LogRange) -> Result<Vec<ServiceLog>, ServiceError>;
    /// The last lines that it printed, newest last; empty if they are not available.
    fn log_tail(&self, name: &str) -> Vec<String>;

    /// Drops what the supervisor still knows of a service whose definition was removed.
    fn forget(&self, _name: &str) -> Result<(), ServiceError> {
        Ok(())
    }
    /// The job of a timer; `None`: there is no such timer, or the supervisor has none.
    fn scheduled_job(&self, _timer: &str) -> Result<Option<ScheduledJob>, ServiceError> {
        Ok(None)
    }

    /// The command that runs `command` beside the services: in a unit of its own if the supervisor has such, else as a
    /// plain child.
    fn in_transient_unit(&self, command: Command, _unit: &TransientUnit) -> Command {
        transient::prefer_to_kill(command)
    }
    /// Ends every process of a transient unit, of this pass or of one that was killed, and returns how its command
    /// ended before. A plain child has ended with the pass that started it.
    fn stop_transient(&self, _name: &str) -> Result<TransientEnd, ServiceError> {
        Ok(TransientEnd::Exited)
    }
}
