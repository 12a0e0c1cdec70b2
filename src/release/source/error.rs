//! Why the repository provides no commit, or a commit no tree.

use git2::{ErrorClass, ErrorCode};

use super::git_memory::too_much_memory;
use crate::ports::root::RootError;
use crate::ports::worker_pool::WorkerPoolError;
use crate::resource::Failure;

/// Why a commit, or its tree, is not available.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// The mirror cannot be read, or it lacks an object or has a corrupt one: fetching it again may help.
    #[error("the mirror is damaged: {}", error.message())]
    BrokenMirror {
        error: git2::Error,
        /// The digest of the server's refs, if the server was asked.
        advertised: Option<String>,
    },
    /// The commit exceeds a limit, or the disk is full: starting from another tree does not help.
    #[error("{}", .0.message)]
    LimitExceeded(Failure),
    #[error("{}", .0.message)]
    Failed(Failure),
}

impl SourceError {
    /// The error for a mirror that cannot be read.
    pub(super) fn broken_mirror(error: git2::Error) -> SourceError {
        SourceError::BrokenMirror {
            error,
            advertised: None,
        }
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Failure {
        match error {
            SourceError::LimitExceeded(failure) | SourceError::Failed(failure) => failure,
            SourceError::BrokenMirror { .. } => Failure::new(error.to_string()),
        }
    }
}

impl From<git2::Error> for SourceError {
    fn from(error: git2::Error) -> SourceError {
        if error.class() == ErrorClass::NoMemory {
            return SourceError::Failed(too_much_memory());
        }
        let of_mirror = matches!(
            error.class(),
            ErrorClass::Odb | ErrorClass::Object | ErrorClass::Zlib | ErrorClass::Indexer
        );
        match of_mirror || error.code() == ErrorCode::NotFound {
            true => SourceError::broken_mirror(error),
            false => SourceError::Failed(Failure::new(error.message())),
        }
    }
}

impl From<Failure> for SourceError {
    fn from(failure: Failure) -> SourceError {
        SourceError::Failed(failure)
    }
}

impl From<RootError> for SourceError {
    fn from(error: RootError) -> SourceError {
        match error.is_disk_full() {
            true => SourceError::LimitExceeded(error.into()),
            false => SourceError::Failed(error.into()),
        }
    }
}

impl<E: Into<SourceError>> From<WorkerPoolError<E>> for SourceError {
    fn from(error: WorkerPoolError<E>) -> SourceError {
        match error {
            WorkerPoolError::Stopped => SourceError::Failed(Failure::stopped()),
            WorkerPoolError::Failed(error) => error.into(),
        }
    }
}
