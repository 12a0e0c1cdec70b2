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
//! | `space` | whether it fits |
//! | `write` | doing it, on all cores |
//! | `copy` | a copy of a whole tree |
//! | `stock` | the trees that are kept ready |
//!
//! A tree that is kept ready is complete, on disk, owned by whom the release will be owned by, and
//! in a folder that only root can enter: nobody but trueup has ever been able to touch it. Its name
//! says of which commit it is, so a tree of a name is whole, and one that is being changed has none.

mod attributes;
mod content;
mod copy;
mod filters;
mod git_crypt;
mod lfs;
mod plan;
mod space;
mod stock;
mod walk;
mod write;

use std::path::PathBuf;

use git2::{ErrorClass, ErrorCode, Oid};

pub(super) use copy::copy;
pub use filters::Filters;
pub(super) use filters::{check as check_filters, named};
pub(super) use git_crypt::Key;
pub(super) use lfs::Lfs;
pub(super) use plan::{Limits, Plan};
pub(super) use space::{Large, Source, check_plan};
pub(super) use stock::{Kept, Stock, oid};
pub(super) use write::Writer;

use crate::ports::git_memory;
use crate::ports::pace::Halt;
use crate::ports::root::RootError;
use crate::resource::Failure;

/// Raised whenever the same commit comes out as other files than before: trees that an older trueup
/// kept ready are then not used.
pub(super) const FORM: u32 = 2;

/// One thing to be laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// From the top of the tree; checked to stay in it.
    pub path: PathBuf,
    pub kind: Kind,
    pub id: Oid,
    pub how: attributes::How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File {
        runs: bool,
    },
    Link,
    /// Git has no empty ones, but a commit may leave out all that is in one.
    Folder,
    /// Another repository: its folder stays empty.
    Submodule,
}

/// Why a tree could not be laid out.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The mirror lacks an object, or has a broken one: fetching it anew may help.
    Mirror(String),
    /// The commit asks for too much, or there is no room: it is the same whatever its tree is made from.
    Refused(Failure),
    Other(Failure),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Mirror(why) => f.write_str(why),
            Trouble::Refused(failure) | Trouble::Other(failure) => f.write_str(&failure.message),
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

impl From<git2::Error> for Trouble {
    fn from(error: git2::Error) -> Trouble {
        if error.class() == ErrorClass::NoMemory {
            return Trouble::Other(too_much_memory());
        }
        let message = error.message().to_owned();
        let of_mirror = matches!(
            error.class(),
            ErrorClass::Odb | ErrorClass::Object | ErrorClass::Zlib | ErrorClass::Indexer
        );
        if of_mirror || error.code() == ErrorCode::NotFound {
            return Trouble::Mirror(message);
        }
        Trouble::Other(Failure::new(message))
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Trouble {
        Trouble::Other(failure)
    }
}

impl From<RootError> for Trouble {
    fn from(error: RootError) -> Trouble {
        match error.is_full() {
            true => Trouble::Refused(error.into()),
            false => Trouble::Other(error.into()),
        }
    }
}

impl<E: Into<Trouble>> From<Halt<E>> for Trouble {
    fn from(halt: Halt<E>) -> Trouble {
        match halt {
            Halt::Stopped => Trouble::Other(Failure::stopped()),
            Halt::Failed(error) => error.into(),
        }
    }
}
