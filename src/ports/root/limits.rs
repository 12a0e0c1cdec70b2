//! Limits on the size of a tree, whose author may be anybody.

use std::path::Path;

use super::error::RootError;

/// Deepest nesting; no project is deeper. The same limit as for a repository.
pub(super) const MAX_DEPTH: usize = 200;

/// Longest path in a tree, in bytes: the kernel's limit (4096) minus room for the path of the tree.
const MAX_PATH_BYTES: usize = 3500;

/// Most files in a tree; the largest projects have fewer.
pub(super) const MAX_ENTRIES: usize = 1_000_000;

/// Whether a path below the top of a tree is deeper or longer than any project needs.
pub(super) fn is_too_deep(path: &Path) -> bool {
    path.components().count() > MAX_DEPTH || path.as_os_str().len() > MAX_PATH_BYTES
}

/// The error for a tree with more than `limit` of `unit`.
pub(super) fn limit_exceeded(top: &Path, limit: usize, unit: &'static str) -> RootError {
    RootError::LimitExceeded {
        path: top.into(),
        limit,
        unit,
    }
}
