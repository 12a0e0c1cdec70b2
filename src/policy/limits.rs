//! What may be in a bundle. The same rules hold for packing and unpacking, so that what `policy push` accepts is what hosts
//! accept.

use crate::ports::store::MAX_OBJECT_SIZE;

/// Largest packed bundle, in bytes: the largest object that a host reads.
pub(crate) const MAX_PACKED: usize = MAX_OBJECT_SIZE;

/// Largest unpacked bundle, in bytes of the archive: headers and padding count.
pub(super) const MAX_UNPACKED: usize = 16 << 20;

/// Largest file, in bytes: what is read of roles and templates at most.
pub(super) const MAX_FILE: usize = 1 << 20;

/// Most files.
pub(super) const MAX_FILES: usize = 2000;

/// Longest path, in bytes. Longer ones do not fit into the header of an archive.
const MAX_PATH: usize = 200;

/// Most parts of a path, the folder and the file included.
pub(super) const MAX_DEPTH: usize = 8;

/// What a bundle consists of.
pub(super) const FOLDERS: [&str; 3] = ["roles", "templates", "environments"];

/// Whether a bundle may have a file at this path; else why not.
pub(super) fn check_path(path: &str) -> Result<(), String> {
    if path.len() > MAX_PATH {
        return Err(format!(
            "its path is {} bytes long; at most {MAX_PATH} are allowed",
            path.len()
        ));
    }
    let parts: Vec<&str> = path.split('/').collect();
    if parts.len() > MAX_DEPTH {
        return Err(format!("it is more than {MAX_DEPTH} folders deep"));
    }
    if parts.len() < 2 || !FOLDERS.contains(&parts[0]) {
        return Err("a bundle has files in roles/, templates/ and environments/ only".to_owned());
    }
    for part in parts {
        if part.is_empty() || part == "." || part == ".." {
            return Err("expected a path without empty parts, `.` and `..`".to_owned());
        }
        if part.starts_with('.') {
            return Err("hidden files do not belong into a bundle".to_owned());
        }
        if part.chars().any(|c| c.is_control() || c == '\\') {
            return Err("expected a name without control characters and backslashes".to_owned());
        }
    }
    Ok(())
}
