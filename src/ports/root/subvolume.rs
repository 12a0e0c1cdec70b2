//! Btrfs subvolumes: folders that one call copies as a whole, at no cost.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::libc;
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, fstatfs};

use super::attrs::set_file_attrs;
use super::{Attrs, Folder, Result};

/// The kernel's `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct BtrfsVolArgs {
    fd: i64,
    name: [u8; 4088],
}

/// `_IOW(0x94, nr, struct btrfs_ioctl_vol_args)`.
const fn ioctl_number(nr: libc::Ioctl) -> libc::Ioctl {
    (1 << 30) | ((size_of::<BtrfsVolArgs>() as libc::Ioctl) << 16) | (0x94 << 8) | nr
}

const SNAP_CREATE: libc::Ioctl = ioctl_number(1);
const SUBVOL_CREATE: libc::Ioctl = ioctl_number(14);

impl Folder {
    /// Creates a subvolume where the filesystem supports it, otherwise a folder. The name must not exist.
    pub(crate) fn create_subvolume(&self, name: &OsStr, attrs: &Attrs) -> Result<()> {
        if !self.is_btrfs() {
            return self.create_folder(name, attrs);
        }
        match self.btrfs_ioctl(SUBVOL_CREATE, None, name) {
            Ok(()) => {
                let made = self.open_subfolder(name.as_ref())?;
                let made = made.ok_or_else(|| self.io_error("make", name, Errno::ENOENT))?;
                let file = made.fd.try_clone().map(std::fs::File::from);
                file.map_err(|_| Errno::EMFILE)
                    .and_then(|file| set_file_attrs(&file, attrs))
                    .map_err(|source| self.io_error("make", name, source))
            }
            Err(Errno::EEXIST) => Err(self.io_error("make", name, Errno::EEXIST)),
            // Not permitted: a sandbox, or a container.
            Err(_) => self.create_folder(name, attrs),
        }
    }

    /// Creates `to` in this folder as a snapshot of the subvolume `of`, with all owners and modes. Returns
    /// whether it succeeded; a failure leaves nothing.
    pub(crate) fn snapshot(&self, of: &Folder, to: &OsStr) -> bool {
        self.is_btrfs() && self.btrfs_ioctl(SNAP_CREATE, Some(of), to).is_ok()
    }

    fn is_btrfs(&self) -> bool {
        fstatfs(&self.fd).is_ok_and(|stat| stat.filesystem_type() == BTRFS_SUPER_MAGIC)
    }

    fn btrfs_ioctl(
        &self,
        request: libc::Ioctl,
        of: Option<&Folder>,
        name: &OsStr,
    ) -> nix::Result<()> {
        let mut named = Box::new(BtrfsVolArgs {
            fd: of.map_or(0, |of| i64::from(of.fd.as_raw_fd())),
            name: [0; 4088],
        });
        let name = name.as_bytes();
        // Includes room for the closing NUL that the kernel requires.
        let buffer = named.name.get_mut(..name.len() + 1);
        buffer.ok_or(Errno::ENAMETOOLONG)?[..name.len()].copy_from_slice(name);
        // SAFETY: the descriptor is open, and the kernel reads a structure whose size is part of the request
        // number and which lives until the call returns.
        Errno::result(unsafe {
            libc::ioctl(
                self.fd.as_fd().as_raw_fd(),
                request,
                std::ptr::from_ref(&*named),
            )
        })
        .map(drop)
    }
}
