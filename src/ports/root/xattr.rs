//! Extended attributes of a file: its ACL, `user.*` attributes and SELinux label.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::libc;

/// The ACL; with one, the mode's group bits are its mask.
const ACL: &CStr = c"system.posix_acl_access";

/// SELinux's label.
const SELINUX_LABEL: &CStr = c"security.selinux";

/// The kernel's limit in bytes, of all names together and of one value.
const MAX_XATTR_BYTES: usize = 64 << 10;

/// Attributes that are carried over when a file is replaced.
#[derive(Debug, Default)]
pub(super) struct PreservedXattrs(Vec<(CString, Vec<u8>)>);

/// Excludes `security.capability`, which belongs to the program's content, and what a filesystem or the
/// kernel keeps for itself (`trusted.*`, `security.ima`).
fn is_preserved(name: &CStr) -> bool {
    name == ACL || name == SELINUX_LABEL || name.to_bytes().starts_with(b"user.")
}

impl PreservedXattrs {
    /// Reads the attributes through any descriptor, including one that is not open for reading.
    pub(super) fn read_from(file: impl AsFd) -> nix::Result<PreservedXattrs> {
        let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
        let path = CString::new(path).map_err(|_| Errno::EINVAL)?;
        let names = match read_all(|buffer, size| {
            // SAFETY: the path ends in a NUL, and the buffer has the size that is passed.
            unsafe { libc::listxattr(path.as_ptr(), buffer.cast(), size) }
        }) {
            // The filesystem does not support them.
            Err(Errno::ENOTSUP) => return Ok(PreservedXattrs::default()),
            names => names?,
        };
        let mut carried = Vec::new();
        for name in names.split_inclusive(|byte| *byte == 0) {
            let name = CStr::from_bytes_with_nul(name).map_err(|_| Errno::EINVAL)?;
            if !is_preserved(name) {
                continue;
            }
            let value = read_all(|buffer, size| {
                // SAFETY: both strings end in a NUL, and the buffer has the size that is passed.
                unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), buffer.cast(), size) }
            });
            match value {
                Ok(value) => carried.push((name.to_owned(), value)),
                Err(Errno::ENODATA) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(PreservedXattrs(carried))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets them on a new file. Removes an ACL that the folder gave it if the old file had none.
    pub(super) fn apply_to(&self, file: &File) -> nix::Result<()> {
        let fd = file.as_raw_fd();
        if self.0.iter().all(|(name, _)| name.as_c_str() != ACL) {
            // SAFETY: an open descriptor, and a NUL-terminated string.
            let removed = Errno::result(unsafe { libc::fremovexattr(fd, ACL.as_ptr()) });
            if let Err(error) = removed
                && !matches!(error, Errno::ENODATA | Errno::ENOTSUP)
            {
                return Err(error);
            }
        }
        for (name, value) in &self.0 {
            // SAFETY: an open descriptor, a NUL-terminated string, and a buffer of the size that is passed.
            let set = Errno::result(unsafe {
                libc::fsetxattr(fd, name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
            });
            match set {
                // If the policy forbids it, the file keeps the label that the policy gives to new files
                // there.
                Err(Errno::EPERM | Errno::EACCES | Errno::ENOTSUP)
                    if name.as_c_str() == SELINUX_LABEL => {}
                set => set.map(drop)?,
            }
        }
        Ok(())
    }
}

/// Returns everything that a call writes into a buffer.
fn read_all(call: impl Fn(*mut u8, usize) -> isize) -> nix::Result<Vec<u8>> {
    let mut buffer = vec![0; 256];
    loop {
        match Errno::result(call(buffer.as_mut_ptr(), buffer.len())) {
            Ok(length) => {
                buffer.truncate(usize::try_from(length).unwrap_or(0));
                return Ok(buffer);
            }
            Err(Errno::ERANGE) if buffer.len() < MAX_XATTR_BYTES => {
                buffer.resize(MAX_XATTR_BYTES, 0)
            }
            Err(error) => return Err(error),
        }
    }
}
