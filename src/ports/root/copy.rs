//! Copying a file without carrying its content through this process, where the kernel can.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::copy_file_range;
use nix::libc;

use super::read::errno;
use super::write::set;
use super::{Attrs, Folder, Result};

/// As much as is asked of the kernel at once, in bytes.
const PIECE: usize = 1 << 30;

/// What was learnt about copying within one filesystem: nothing is tried twice in vain.
#[derive(Debug)]
pub struct Copier {
    shares: AtomicBool,
    in_kernel: AtomicBool,
}

impl Default for Copier {
    fn default() -> Copier {
        Copier {
            shares: AtomicBool::new(true),
            in_kernel: AtomicBool::new(true),
        }
    }
}

impl Copier {
    /// Whether copies share their content on disk with the original until one of them is written to
    /// (a reflink); known after the first copy.
    pub fn shares(&self) -> bool {
        self.shares.load(Ordering::Relaxed)
    }

    /// Copies an open file, from where it was read to, to `name` in a folder, where nothing may be.
    /// The two are files of their own: what is written to one never shows in the other.
    pub fn copy(&self, source: &File, to: &Folder, name: &OsStr, attrs: &Attrs) -> Result<File> {
        let copied = to.fresh(name).and_then(|target| {
            self.fill(source, &target)?;
            set(&target, attrs)?;
            Ok(target)
        });
        copied.map_err(|source| to.io("write", name, source))
    }

    fn fill(&self, source: &File, target: &File) -> nix::Result<()> {
        if self.shares() {
            // SAFETY: an ioctl on two open descriptors that takes the source's number.
            let shared = Errno::result(unsafe {
                libc::ioctl(target.as_raw_fd(), libc::FICLONE, source.as_raw_fd())
            });
            match shared {
                Ok(_) => return Ok(()),
                Err(Errno::ENOSPC | Errno::EDQUOT | Errno::EIO) => return shared.map(drop),
                Err(_) => self.shares.store(false, Ordering::Relaxed),
            }
        }
        while self.in_kernel.load(Ordering::Relaxed) {
            match copy_file_range(source.as_fd(), None, target.as_fd(), None, PIECE) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(Errno::EINTR) => {}
                Err(error @ (Errno::ENOSPC | Errno::EDQUOT | Errno::EIO)) => return Err(error),
                // Not here. What was copied so far is known to both descriptors' positions.
                Err(_) => self.in_kernel.store(false, Ordering::Relaxed),
            }
        }
        through_us(source, target).map_err(|error| errno(&error))
    }
}

fn through_us(mut source: &File, mut target: &File) -> std::io::Result<()> {
    let mut piece = vec![0; 128 << 10];
    loop {
        match source.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(n) => target.write_all(&piece[..n])?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
