//! Names of the entries of a folder, as the kernel lists them.

use std::ffi::CStr;

/// Whether it is the folder itself or its parent.
pub(super) fn is_dot_or_dot_dot(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}
