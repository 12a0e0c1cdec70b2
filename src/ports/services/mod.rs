//! The services port: what runs on the host and how it is started, stopped and told to reload.

#[cfg(test)]
mod conformance;
#[cfg(any(test, feature = "test-backends"))]
pub mod fake;
mod kernel_clock;
mod live_process;
mod manager;
mod name;
mod process;
mod supervisor;
mod systemd;

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub(super) use live_process::LiveProcess;
pub use manager::{ManagedBy, ServiceManager, open, supervisor, timer};
pub use process::ProcessServices;
pub use supervisor::SupervisorServices;
pub use systemd::SystemdServices;

/// What a service is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActiveState {
    Running,
    /// On its way up: activating, or waiting to be restarted by its supervisor.
    Starting,
    Stopping,
    Stopped,
    /// It ended by itself in a way that its supervisor calls a failure.
    Failed,
}

/// Whether a service is started at boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnabledState {
    Yes,
    No,
    /// Neither: it has no install section, or is generated, transient or indirect.
    Static,
    /// An operator forbade it on purpose.
    Masked,
}

/// A service as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceStatus {
    /// The supervisor has a definition of it. False: nothing else here means anything.
    pub known: bool,
    pub active: ActiveState,
    pub enabled: EnabledState,
    pub main_pid: Option<u32>,
    /// Which run this is: differs after every start or restart, whoever asked for it.
    pub run_id: Option<String>,
    /// When this run started, by the wall clock as it is set *now* (so that it compares with file
    /// times even if the clock was corrected since).
    pub started_at: Option<Timestamp>,
    /// When it was last told to reload, if its supervisor knows.
    pub reloaded_at: Option<Timestamp>,
    /// Which reload that was: differs after every one, and never else. (The time is worked out
    /// anew at each look and so is never twice the same.)
    pub reload_id: Option<String>,
    pub can_reload: bool,
    /// The definition on disk is newer than the one its supervisor has read.
    pub stale_definition: bool,
    /// The file that its supervisor has its definition from, if that tells.
    pub definition_file: Option<PathBuf>,
    /// The files that its supervisor itself opens to start it, with all the rights that it has.
    pub environment_files: Vec<PathBuf>,
    /// How often its supervisor started it again because it died, since anybody last started it on
    /// purpose; 0 where the supervisor does not count.
    pub restarts: u32,
}

impl ServiceStatus {
    /// Of a name that the supervisor has no definition of.
    fn unknown() -> ServiceStatus {
        ServiceStatus {
            known: false,
            active: ActiveState::Stopped,
            enabled: EnabledState::No,
            main_pid: None,
            run_id: None,
            started_at: None,
            reloaded_at: None,
            reload_id: None,
            can_reload: false,
            stale_definition: false,
            definition_file: None,
            environment_files: Vec::new(),
            restarts: 0,
        }
    }
}

/// When a timer starts its service next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NextTrigger {
    At(Timestamp),
    /// Its service runs; the next start is counted from its end.
    Underway,
    /// The timer is there and starts nothing: it was stopped, or has nothing left to do.
    Off,
}

/// A timer, as its supervisor has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timer {
    pub next: NextTrigger,
    /// False: it is disabled and off, and nobody expects anything of it.
    pub expected: bool,
    /// How long after one start, or after its end, the next one comes; `None`: that cannot be told.
    pub period: Option<Duration>,
    /// How much later than planned a start may come.
    pub max_delay: Duration,
    /// Since when it has been on, on the clock of [`crate::ports::clock::monotonic_time`].
    pub active_since: Option<Duration>,
}

/// Why a service could not be asked or moved.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error("there is no service `{name}`: {hint}")]
    Unknown { name: String, hint: String },
    /// The supervisor itself does not answer.
    #[error("{supervisor} does not answer: {why}")]
    Unreachable {
        supervisor: &'static str,
        why: String,
    },
    /// `log` holds the last lines that the service printed, newest last; may be empty.
    #[error("{verb} of {name} failed: {why}")]
    Failed {
        verb: &'static str,
        name: String,
        why: String,
        log: Vec<String>,
    },
    #[error("{verb} of {name} had not finished after {seconds} s")]
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

/// A supervisor of services. Every verb returns only when the supervisor says that it is done (a
/// started service is up, a stopped one is gone) or has failed, and always within a deadline.
///
/// Names are as in the supervisor's own words; for systemd, `nginx` means `nginx.service`.
pub trait Services {
    fn status(&self, name: &str) -> Result<ServiceStatus, ServiceError>;
    fn start(&self, name: &str) -> Result<(), ServiceError>;
    fn stop(&self, name: &str) -> Result<(), ServiceError>;
    /// Stops and starts; starts it if it was stopped. Rereads a stale definition first.
    fn restart(&self, name: &str) -> Result<(), ServiceError>;
    fn reload(&self, name: &str) -> Result<(), ServiceError>;
    fn enable(&self, name: &str) -> Result<(), ServiceError>;
    fn disable(&self, name: &str) -> Result<(), ServiceError>;
    /// The last lines that it printed, newest last; none when they cannot be had.
    fn log_tail(&self, name: &str) -> Vec<String>;
}
