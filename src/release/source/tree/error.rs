//! Why a tree could not be written.

use git2::{ErrorClass, ErrorCode};

use crate::ports::root::RootError;
use crate::ports::worker_pool::WorkerPoolError;
use crate::release::source::git_memory::too_much_memory;
use crate::resource::Failure;

/// Why a tree could not be written.
#[derive(Debug)]
pub(crate) enum TreeError {
    /// The mirror lacks an object or has a corrupt one: fetching it again may help.
    Mirror(String),
    /// The commit exceeds a limit, or the disk is full: starting from another tree does not help.
    Refused(Failure),
    Other(Failure),
}

impl std::fmt::Display for TreeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TreeError::Mirror(why) => f.write_str(why),
            TreeError::Refused(failure) | TreeError::Other(failure) => {
                f.write_str(&failure.message)
            }
        }
    }
}

impl From<git2::Error> for TreeError {
    fn from(error: git2::Error) -> TreeError {
        if error.class() == ErrorClass::NoMemory {
            return TreeError::Other(too_much_memory());
        }
        let message = error.message().to_owned();
        let of_mirror = matches!(
            error.class(),
            ErrorClass::Odb | ErrorClass::Object | ErrorClass::Zlib | ErrorClass::Indexer
        );
        if of_mirror || error.code() == ErrorCode::NotFound {
            return TreeError::Mirror(message);
        }
        TreeError::Other(Failure::new(message))
    }
}

impl From<Failure> for TreeError {
    fn from(failure: Failure) -> TreeError {
        TreeError::Other(failure)
    }
}

impl From<RootError> for TreeError {
    fn from(error: RootError) -> TreeError {
        match error.is_disk_full() {
            true => TreeError::Refused(error.into()),
            false => TreeError::Other(error.into()),
        }
    }
}

impl<E: Into<TreeError>> From<WorkerPoolError<E>> for TreeError {
    fn from(halt: WorkerPoolError<E>) -> TreeError {
        match halt {
            WorkerPoolError::Stopped => TreeError::Other(Failure::stopped()),
            WorkerPoolError::Failed(error) => error.into(),
        }
    }
}
