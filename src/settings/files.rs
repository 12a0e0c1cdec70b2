//! Reads trueup's own files: settings, roles and templates.

use std::path::Path;

use crate::ports::root::{FileKind, Meta, Root, RootError};
use crate::problem::Problem;

/// Maximum size of a settings, role or template file, in bytes.
const MAX_FILE_BYTES: usize = 1 << 20;

/// Reads a file of trueup's own, outside of any sandbox, that only root (or the user who runs trueup) can
/// change.
pub(super) fn read_file(root: &Root, path: &Path) -> Result<Option<(Meta, Vec<u8>)>, Problem> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = root
        .read_trusted(&path, MAX_FILE_BYTES, None)
        .map_err(unreadable)?;
    match found {
        Some((meta, _)) if meta.kind == FileKind::Directory => Err(Problem::new(format!(
            "{} is a directory; expected a file",
            path.display()
        ))),
        found => Ok(found),
    }
}

/// The problem with a file that cannot be read.
pub(super) fn unreadable(error: RootError) -> Problem {
    Problem::new(error.to_string()).optional_hint(error.hint())
}
