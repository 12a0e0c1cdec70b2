//! One entry of a tree that is to be written.

use std::path::PathBuf;

use git2::Oid;

use super::attributes::Conversion;
use super::walk::EntryKind;

/// One entry to be created on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TreeEntry {
    /// Relative to the top of the tree; checked to stay inside it.
    pub path: PathBuf,
    pub kind: EntryKind,
    pub id: Oid,
    pub conversion: Conversion,
}
