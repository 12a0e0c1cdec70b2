//! A commit's files on disk: what they are to be, moving a tree from one commit to another at the
//! cost of what differs, and keeping one ready for the next release.
//!
//! | part | what it is about |
//! | --- | --- |
//! | `walk` | reading a commit's trees, and refusing what must not reach a disk |
//! | `attributes` | what `.gitattributes` of the commit say |
//! | `content` | from a blob to what is in the file |
//! | `plan` | what has to be removed and made, between two commits or for a whole one |
//! | `lfs` | files that git keeps elsewhere |
//! | `filters` | files that are something else in the repository, encrypted ones above all |
//! | `git_crypt` | what git-crypt encrypted, in the clear |
//! | `disk_space` | whether it fits |
//! | `writer` | doing it, on all cores |
//! | `copy_tree` | a copy of a whole tree |
//! | `spare` | the trees that are kept ready |
//!
//! A tree that is kept ready is complete, on disk, owned by whom the release will be owned by, and
//! in a folder that only root can enter: nobody but trueup has ever been able to touch it. Its name
//! says of which commit it is, so a tree of a name is whole, and one that is being changed has none.

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

pub(super) use copy::copy_tree;
pub(super) use disk_space::{ContentSource, LargeBlobs, check_plan};
pub use filters::FilterPolicy;
pub(super) use filters::{check as check_filters, format_paths};
pub(super) use git_crypt::GitCryptKey;
pub(super) use lfs::LfsFiles;
pub(super) use plan::{Plan, PlanLimits};
pub(super) use spare::{SpareTree, SpareTrees, parse_oid};
pub(super) use writer::TreeWriter;

use crate::ports::git_memory;
use crate::ports::root::RootError;
use crate::ports::worker_pool::WorkerPoolError;
use crate::resource::Failure;

/// Raised whenever the same commit comes out as other files than before: trees that an older trueup
/// kept ready are then not used.
pub(super) const LAYOUT_VERSION: u32 = 2;

/// One thing to be laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TreeEntry {
    /// From the top of the tree; checked to stay in it.
    pub path: PathBuf,
    pub kind: EntryKind,
    pub id: Oid,
    pub conversion: attributes::Conversion,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryKind {
    File {
        executable: bool,
    },
    Symlink,
    /// Git has no empty ones, but a commit may leave out all that is in one.
    Directory,
    /// Another repository: its folder stays empty.
    Submodule,
}

/// Why a tree could not be laid out.
#[derive(Debug)]
pub(crate) enum TreeError {
    /// The mirror lacks an object, or has a broken one: fetching it anew may help.
    Mirror(String),
    /// The commit asks for too much, or there is no room: it is the same whatever its tree is made from.
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

/// What libgit2's failed allocation means.
pub(in crate::release) fn too_much_memory() -> Failure {
    Failure::new(format!(
        "what the repository holds needs more than the {} MiB of memory that git may take",
        git_memory::limit() >> 20
    ))
    .hint("look for a very large file or folder in the repository, or for one that somebody made to do harm; `max_file` of the release raises this as well")
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
