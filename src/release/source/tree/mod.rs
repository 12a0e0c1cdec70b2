//! Checks out the files of a commit, updates a tree from one commit to another at the cost of the
//! differences, and keeps spare trees for the next release.
//!
//! | part | purpose |
//! | --- | --- |
//! | `walk` | reads the trees of a commit, and refuses what must not reach a disk |
//! | `attributes` | resolves the commit's `.gitattributes` |
//! | `content` | converts a blob to the content of its file |
//! | `plan` | lists what to remove and create, between two commits or for a whole one |
//! | `lfs` | replaces Git LFS pointers with their files |
//! | `filters` | detects files that need a filter, above all encrypted ones |
//! | `git_crypt` | decrypts the files of git-crypt |
//! | `disk_space` | checks that the files fit |
//! | `writer` | carries out a plan, on all cores |
//! | `copy` | copies a whole tree |
//! | `spare` | manages the spare trees |
//!
//! A spare tree is complete, on disk, owned by the owner of the future release, and in a folder that only
//! root can enter: no other user has ever been able to modify it. Its name contains its commit. A tree that
//! has such a name is complete; a tree that is being changed has none.

mod attributes;
mod content;
mod copy;
mod disk_space;
mod filters;
mod git_crypt;
mod lfs;
mod plan;
mod spare;
mod walk;
mod writer;

use std::path::PathBuf;

use git2::{ErrorClass, ErrorCode, Oid};

pub(in crate::release) use copy::copy_tree;
pub(in crate::release) use disk_space::{ContentSource, LargeBlobs, check_plan};
pub(in crate::release) use filters::{check as check_filters, format_paths};
pub(in crate::release) use git_crypt::GitCryptKey;
pub(in crate::release) use lfs::LfsFiles;
pub(in crate::release) use plan::{Plan, PlanLimits};
pub(in crate::release) use spare::{SpareTree, SpareTrees, parse_oid};
pub(in crate::release) use writer::TreeWriter;

use crate::ports::root::RootError;
use crate::ports::worker_pool::WorkerPoolError;
use crate::release::source::git_memory::too_much_memory;
use crate::resource::Failure;

/// Incremented whenever the same commit yields other files than before, so that spare trees of an older
/// trueup are not used.
pub const LAYOUT_VERSION: u32 = 2;

/// One entry to be created on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// Relative to the top of the tree; checked to stay inside it.
    pub path: PathBuf,
    pub kind: EntryKind,
    pub id: Oid,
    pub conversion: attributes::Conversion,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    File {
        executable: bool,
    },
    Symlink,
    /// Git has no empty folders, but attributes can leave out all files of one.
    Directory,
    /// Another repository: its folder stays empty.
    Submodule,
}

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
