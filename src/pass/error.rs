//! Why a pass could not be made, in words.

use std::time::Duration;

use crate::desired::DesiredError;
use crate::ports::root::RootError;
use crate::ports::store::StoreError;
use crate::problem::{Problem, Problems};
use crate::resource::Failure;

/// Why a pass could not be made at all. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// Settings, a role, a template or the manifest.
    #[error("{0}")]
    Input(#[from] Problems),
    #[error("{0}")]
    Desired(DesiredError),
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A role asks for peers, and there is no last good list of them either.
    #[error("{source}; this host has no list of its peers yet, so nothing was changed")]
    NoPeerList {
        #[source]
        source: StoreError,
    },
    /// A role asks for peers, and the last good list of them cannot be read, or none can be kept.
    #[error("{0}; nothing was changed")]
    PeerList(String),
    /// trueup's own files on the host.
    #[error("{0}")]
    Root(#[from] RootError),
    /// The command line names something that is not there.
    #[error("{0}")]
    Usage(Box<Problem>),
    /// What an operator ordered besides the pass.
    #[error("{0}")]
    LiftQuarantine(Failure),
    #[error("{}", locked_message(holder, *waited, *stopped))]
    Locked {
        /// The pass that has the lock, in words.
        holder: String,
        waited: Duration,
        /// Somebody ended the wait.
        stopped: bool,
    },
    /// No pass has the lock, and something has.
    #[error("{0}")]
    ForeignLock(Box<Problem>),
}

fn locked_message(holder: &str, waited: Duration, stopped: bool) -> String {
    match (stopped, waited.as_secs()) {
        (true, _) => format!("the wait was ended and nothing was done; running still: {holder}"),
        (false, 0) => format!("another pass is running: {holder}"),
        (false, seconds) => format!("another pass is running still after {seconds} s: {holder}"),
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
            error => PassError::Desired(error),
        }
    }
}
