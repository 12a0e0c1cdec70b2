//! Copies a file inside the kernel, without passing its content through this process where possible.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::{OFlag, copy_file_range, openat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, fstat};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{UnlinkatFlags, Whence, ftruncate, lseek, unlinkat};

use super::attrs::set_file_attrs;
use super::read::errno_of;
use super::{Attrs, Folder, Result};
use crate::ports::watchdog;

/// Most bytes that one call asks the kernel to copy.
const MAX_CHUNK_BYTES: usize = 1 << 30;

/// Remembers which ways of copying the filesystem supports, so that a failed one is not retried per file.
#[derive(Debug)]
pub(crate) struct FileCopier {
    can_reflink: AtomicBool,
    in_kernel: AtomicBool,
}

impl Default for FileCopier {
    fn default() -> FileCopier {
        FileCopier {
            can_reflink: AtomicBool::new(true),
            in_kernel: AtomicBool::new(true),
        }
    }
}

impl FileCopier {
    /// Whether copies share their disk blocks with the original until one of them is written to (a reflink);
    /// known after the first copy.
    pub(crate) fn can_reflink(&self) -> bool {
        self.can_reflink.load(Ordering::Relaxed)
    }

    /// Copies an open file to `name` in a folder, where nothing may exist. The two files are independent: a
    /// write to one never shows in the other. Keeps holes, and does not wait for concurrent writes to the
    /// original. Removes a copy that failed.
    pub(crate) fn copy(
        &self,
        source: &File,
        to: &Folder,
        name: &OsStr,
        attrs: &Attrs,
    ) -> Result<File> {
        let target = to
            .create_new_file(name)
            .map_err(|source| to.io_error("write", name, source))?;
        let copied = self.copy_content(source, &target, to);
        match copied.and_then(|()| set_file_attrs(&target, attrs)) {
            Ok(()) => Ok(target),
            Err(source) => {
                let _ = unlinkat(&to.fd, name, UnlinkatFlags::NoRemoveDir);
                Err(to.io_error("write", name, source))
            }
        }
    }

    /// Whether a copy of this file in that folder would be a reflink. Leaves nothing in the folder.
    pub(super) fn probe_reflink(source: &File, to: &Folder) -> bool {
        let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let probe = openat(&to.fd, ".", flags, Mode::from_bits_truncate(0o600));
        probe.is_ok_and(|probe| reflink(source, &File::from(probe)).is_ok())
    }

    fn copy_content(&self, source: &File, target: &File, to: &Folder) -> nix::Result<()> {
        if self.can_reflink() {
            match reflink(source, target) {
                Err(error @ (Errno::ENOSPC | Errno::EDQUOT | Errno::EIO)) => return Err(error),
                Err(_) => self.can_reflink.store(false, Ordering::Relaxed),
                done => return done,
            }
        }
        let stat = fstat(source)?;
        check_free_space(&stat, to)?;
        let mut at = 0;
        while let Some((from, end)) = next_data_range(source, at, stat.st_size)? {
            self.copy_range(source, target, from, end)?;
            at = end;
        }
        ftruncate(target, stat.st_size)
    }

    /// Copies a range of bytes to the same offsets.
    fn copy_range(&self, source: &File, target: &File, from: i64, end: i64) -> nix::Result<()> {
        let (mut read, mut written) = (from, from);
        while read < end && self.in_kernel.load(Ordering::Relaxed) {
            watchdog::record_progress();
            let length = usize::try_from(end - read)
                .unwrap_or(MAX_CHUNK_BYTES)
                .min(MAX_CHUNK_BYTES);
            let (source, target) = (source.as_fd(), target.as_fd());
            match copy_file_range(source, Some(&mut read), target, Some(&mut written), length) {
                // Another process truncated the source.
                Ok(0) => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error @ (Errno::ENOSPC | Errno::EDQUOT | Errno::EIO)) => return Err(error),
                // Not supported here.
                Err(_) => self.in_kernel.store(false, Ordering::Relaxed),
            }
        }
        copy_through_buffer(source, target, read, end).map_err(|error| errno_of(&error))
    }
}

fn reflink(source: &File, target: &File) -> nix::Result<()> {
    // SAFETY: an ioctl on two open descriptors that takes the source's number.
    let cloned = unsafe { libc::ioctl(target.as_raw_fd(), libc::FICLONE, source.as_raw_fd()) };
    Errno::result(cloned).map(drop)
}

/// Refuses to fill the filesystem up to root's reserve. Small files are not checked one by one: a caller that
/// copies many checks their total first.
fn check_free_space(stat: &FileStat, to: &Folder) -> nix::Result<()> {
    const LARGE: u64 = 1 << 20;
    let bytes = u64::try_from(stat.st_blocks)
        .unwrap_or(0)
        .saturating_mul(512);
    if bytes < LARGE {
        return Ok(());
    }
    let target = fstatvfs(&to.fd)?;
    let free = target
        .blocks_available()
        .saturating_mul(target.fragment_size());
    match free > bytes {
        true => Ok(()),
        false => Err(Errno::ENOSPC),
    }
}

/// The next range of the file from `at` on that is no hole. `None`: there is none before `end`.
fn next_data_range(file: &File, at: i64, end: i64) -> nix::Result<Option<(i64, i64)>> {
    if at >= end {
        return Ok(None);
    }
    let from = match lseek(file, at, Whence::SeekData) {
        Ok(from) => from,
        Err(Errno::ENXIO) => return Ok(None),
        // The filesystem does not support holes.
        Err(Errno::EINVAL) => return Ok(Some((at, end))),
        Err(error) => return Err(error),
    };
    let to = lseek(file, from, Whence::SeekHole).unwrap_or(end);
    Ok((from < end).then_some((from, to.min(end))))
}

fn copy_through_buffer(source: &File, target: &File, from: i64, end: i64) -> std::io::Result<()> {
    let mut piece = vec![0; 128 << 10];
    let mut at = u64::try_from(from).unwrap_or(0);
    let end = u64::try_from(end).unwrap_or(0);
    while at < end {
        watchdog::record_progress();
        let most = usize::try_from(end - at).unwrap_or(piece.len());
        let length = piece.len().min(most);
        match source.read_at(&mut piece[..length], at) {
            Ok(0) => return Ok(()),
            Ok(n) => {
                target.write_all_at(&piece[..n], at)?;
                at += n as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::ports::root::Root;

    #[test]
    fn copy_of_a_sparse_file_stays_sparse_and_equal() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("sparse")).unwrap();
        file.write_all_at(b"begin", 0).unwrap();
        file.write_all_at(b"middle", 3 << 30).unwrap();
        file.set_len(20 << 30).unwrap();
        let root = Root::at(dir.path()).unwrap();
        let folder = root.open_folder("/".as_ref()).unwrap().unwrap();
        for in_kernel in [true, false] {
            let copier = FileCopier::default();
            copier.in_kernel.store(in_kernel, Ordering::Relaxed);
            copier.can_reflink.store(false, Ordering::Relaxed);
            let source = folder.open_file("sparse".as_ref()).unwrap().unwrap();
            let name = format!("copy-{in_kernel}");
            let copy = copier
                .copy(&source, &folder, name.as_ref(), &Attrs::mode(0o600))
                .unwrap();
            let meta = copy.metadata().unwrap();
            assert_eq!(meta.len(), 20 << 30);
            assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
            let mut read = [0; 6];
            let copy = folder.open_file(name.as_ref()).unwrap().unwrap();
            copy.read_exact_at(&mut read, 3 << 30).unwrap();
            assert_eq!(&read, b"middle");
            copy.read_exact_at(&mut read, 0).unwrap();
            assert_eq!(&read, b"begin\0");
        }
    }
}
