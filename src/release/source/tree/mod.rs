//! Checks out the files of a commit, updates a tree from one commit to another at the cost of the
//! differences, and keeps spare trees for the next release.
//!
//! | part | purpose |
//! | --- | --- |
//! | `walk` | reads the trees of a commit, and refuses what must not reach a disk |
//! | `entry` | one entry to write |
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
mod entry;
mod filters;
mod git_crypt;
mod lfs;
mod plan;
mod spare;
mod walk;
mod writer;

pub(in crate::release) use copy::copy_tree;
pub(in crate::release) use disk_space::{ContentSource, LargeBlobs, check_plan};
pub(crate) use entry::TreeEntry;
pub(in crate::release) use filters::{check as check_filters, format_paths};
pub(in crate::release) use git_crypt::GitCryptKey;
pub(in crate::release) use lfs::LfsFiles;
pub(in crate::release) use plan::{Plan, PlanLimits};
pub(in crate::release) use spare::{SpareTree, SpareTrees, parse_oid};
pub(crate) use walk::EntryKind;
pub(in crate::release) use writer::TreeWriter;

/// Incremented whenever the same commit yields other files than before, so that spare trees of an older
/// trueup are not used.
pub(crate) const LAYOUT_VERSION: u32 = 2;
