//! Subvolumes of btrfs: a folder that can be copied whole, by one call, at no cost.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::libc;
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, fstatfs};

use super::write::set;
use super::{Attrs, Folder, Result};

/// `struct btrfs_ioctl_vol_args` of the kernel.
#[repr(C)]
struct Named {
    fd: i64,
    name: [u8; 4088],
}

/// `_IOW(0x94, nr, struct btrfs_ioctl_vol_args)`.
const fn request(nr: libc::Ioctl) -> libc::Ioctl {
    (1 << 30) | ((size_of::<Named>() as libc::Ioctl) << 16) | (0x94 << 8) | nr
}

const SNAP_CREATE: libc::Ioctl = request(1);
const SUBVOL_CREATE: libc::Ioctl = request(14);

impl Folder {
    /// Makes a folder in this one, as a subvolume where the filesystem has them. Nothing may be there.
    pub fn make_volume(&self, name: &OsStr, attrs: &Attrs) -> Result<()> {
        if !self.has_volumes() {
            return self.make_folder(name, attrs);
        }
        match self.ask(SUBVOL_CREATE, None, name) {
            Ok(()) => {
                let made = self.inside(name.as_ref())?;
                let made = made.ok_or_else(|| self.io("make", name, Errno::ENOENT))?;
                let file = made.fd.try_clone().map(std::fs::File::from);
                file.map_err(|_| Errno::EMFILE)
                    .and_then(|file| set(&file, attrs))
                    .map_err(|source| self.io("make", name, source))
            }
            Err(Errno::EEXIST) => Err(self.io("make", name, Errno::EEXIST)),
            // Not allowed to: a sandbox, or a container.
            Err(_) => self.make_folder(name, attrs),
        }
    }

    /// Makes `to` in this folder a copy of the whole subvolume `of`, with all owners and modes, and
    /// tells whether that could be done. Where it could not, nothing was made.
    pub fn snapshot(&self, of: &Folder, to: &OsStr) -> bool {
        self.has_volumes() && self.ask(SNAP_CREATE, Some(of), to).is_ok()
    }

    fn has_volumes(&self) -> bool {
        fstatfs(&self.fd).is_ok_and(|seen| seen.filesystem_type() == BTRFS_SUPER_MAGIC)
    }

    fn ask(&self, what: libc::Ioctl, of: Option<&Folder>, name: &OsStr) -> nix::Result<()> {
        let mut named = Box::new(Named {
            fd: of.map_or(0, |of| i64::from(of.fd.as_raw_fd())),
            name: [0; 4088],
        });
        let name = name.as_bytes();
        // Room for the closing NUL that the kernel wants.
        let place = named.name.get_mut(..name.len() + 1);
        place.ok_or(Errno::ENAMETOOLONG)?[..name.len()].copy_from_slice(name);
        // SAFETY: the descriptor is open, and the kernel reads a structure of the size that is part of
        // the request's number, which lives until the call returns.
        Errno::result(unsafe {
            libc::ioctl(
                self.fd.as_fd().as_raw_fd(),
                what,
                std::ptr::from_ref(&*named),
            )
        })
        .map(drop)
    }
}
