//! Errors that end a pass, with their messages.

use std::time::Duration;

use crate::desired::DesiredError;
use crate::exit::Exit;
use crate::ports::root::RootError;
use crate::ports::store::StoreError;
use crate::problem::{Problem, Problems};
use crate::resource::Failure;

/// Why a pass ended early. Only [`PassError::Root`] can come after a change.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PassError {
    /// Invalid settings, role, template or manifest.
    #[error(transparent)]
    Input(#[from] Problems),
    /// The store does not answer, and there is no last good manifest.
    #[error("{0}; this host has no last good manifest yet, so nothing was changed")]
    NoManifest(StoreError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A role queries peers, the store does not answer, and there is no last good list.
    #[error("{0}; this host has no list of its peers yet, so nothing was changed")]
    NoPeerList(StoreError),
    /// A role queries peers, and the last good list is unreadable or a new one cannot be saved.
    #[error("{0}; nothing was changed")]
    PeerList(String),
    /// The policy bundle in force is gone from this host, and the store does not provide it.
    #[error("the policy bundle in force on this host is missing: {0}; nothing was changed")]
    NoPolicy(String),
    /// An error on trueup's own files on the host.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The command line names something that does not exist.
    #[error(transparent)]
    Usage(Box<Problem>),
    /// Lifting the quarantine failed.
    #[error(transparent)]
    LiftQuarantine(Failure),
    #[error("{}", locked_message(holder, *waited, *stopped))]
    Locked {
        /// Description of the pass that holds the lock.
        holder: String,
        waited: Duration,
        /// A signal ended the wait.
        stopped: bool,
    },
    /// A process that is no pass of trueup holds the lock.
    #[error(transparent)]
    ForeignLock(Box<Problem>),
}

impl PassError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            PassError::Usage(_) => Exit::Usage,
            PassError::Input(_) | PassError::Store(StoreError::Settings(_)) => Exit::BadInput,
            PassError::Locked { .. } => Exit::Locked,
            PassError::PeerList(_) | PassError::NoPolicy(_) => Exit::Stale,
            PassError::Store(_)
            | PassError::NoManifest(_)
            | PassError::NoPeerList(_)
            | PassError::Root(_)
            | PassError::LiftQuarantine(_)
            | PassError::ForeignLock(_) => Exit::Failed,
        }
    }
}

fn locked_message(holder: &str, waited: Duration, stopped: bool) -> String {
    match (stopped, waited.as_secs()) {
        (true, _) => format!("stopped waiting, nothing was done; still running: {holder}"),
        (false, 0) => format!("another pass is running: {holder}"),
        (false, seconds) => format!("another pass is still running after {seconds} s: {holder}"),
    }
}

impl From<Problem> for PassError {
    fn from(problem: Problem) -> PassError {
        PassError::Input(problem.into())
    }
}

impl From<DesiredError> for PassError {
    fn from(error: DesiredError) -> PassError {
        match error {
            DesiredError::Refused(problem) => PassError::Input((*problem).into()),
            DesiredError::Cache(error) => PassError::Root(error),
            DesiredError::NeverReached(error) => PassError::NoManifest(error),
        }
    }
}
