//! What the kernel refused a change for: an attribute of the file or its folder, or a mount on it.

use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;

use super::file_flag::FileFlag;
use super::{Root, RootError};

/// The verbs of the operations that change something.
const CHANGES: [&str; 6] = ["change", "link", "make", "remove", "rename", "write"];

impl Root {
    /// The error of an operation on `path`. Looks for the cause where the errno of a change does not tell it.
    pub(super) fn explain_errno(&self, verb: &'static str, path: &Path, errno: Errno) -> RootError {
        let is_change = CHANGES.contains(&verb);
        let flagged = match errno {
            Errno::EPERM if is_change => self.flagged_part(path),
            _ => None,
        };
        match (errno, flagged) {
            (Errno::EBUSY, _) if is_change => RootError::Mounted {
                verb,
                path: path.into(),
            },
            (_, Some((part, flag))) => RootError::Flagged {
                verb,
                path: path.into(),
                part: part.into(),
                flag,
            },
            _ => RootError::Io {
                verb,
                path: path.into(),
                errno,
            },
        }
    }

    /// The same for an operation on two paths: names the one that forbids it.
    pub(super) fn explain_errno_of_either(
        &self,
        verb: &'static str,
        path: &Path,
        other: &Path,
        errno: Errno,
    ) -> RootError {
        match self.explain_errno(verb, path, errno) {
            RootError::Io { .. } => match self.explain_errno(verb, other, errno) {
                RootError::Io { .. } => RootError::Io {
                    verb,
                    path: path.into(),
                    errno,
                },
                explained => explained,
            },
            explained => explained,
        }
    }

    /// The path or its folder, whichever has an attribute that forbids changes.
    fn flagged_part<'a>(&self, path: &'a Path) -> Option<(&'a Path, FileFlag)> {
        let mut parts = path.ancestors().take(2);
        parts.find_map(|part| Some((part, self.file_flag(part)?)))
    }

    fn file_flag(&self, path: &Path) -> Option<FileFlag> {
        // Another verb than those above: the lookup of this error must not start another one.
        let resolved = self.resolve_path("look at", path).ok()??;
        let name = CString::new(resolved.name.as_bytes()).ok()?;
        let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT;
        let mut found = std::mem::MaybeUninit::<libc::statx>::zeroed();
        // SAFETY: an open folder, a NUL-terminated string, and a buffer of the type that the call fills.
        let attributes = unsafe {
            let (folder, to) = (resolved.parent.as_raw_fd(), found.as_mut_ptr());
            match libc::statx(folder, name.as_ptr(), flags, libc::STATX_TYPE, to) {
                0 => found.assume_init().stx_attributes,
                _ => return None,
            }
        };
        let has = |flag: libc::c_int| attributes & u64::from(flag.unsigned_abs()) != 0;
        match (
            has(libc::STATX_ATTR_IMMUTABLE),
            has(libc::STATX_ATTR_APPEND),
        ) {
            (true, _) => Some(FileFlag::Immutable),
            (_, true) => Some(FileFlag::AppendOnly),
            _ => None,
        }
    }
}
