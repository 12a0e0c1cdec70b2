//! Removing a whole tree, or giving it away, without ever leaving it.

use std::ffi::{CStr, OsStr};
use std::os::fd::AsFd;
use std::path::Path;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, syncfs, unlinkat};

use super::{FileKind, Meta, Result, Root};
use crate::ports::pace::Pace;

impl Root {
    /// Removes `path` and everything below it. Links are removed, never followed. What is not
    /// there is no error.
    pub fn remove_tree(&self, path: &Path) -> Result<()> {
        let Some(spot) = self.spot("remove", path)? else {
            return Ok(());
        };
        match remove_at(&spot.parent, &spot.name) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(source) => Err(self.io("remove", path)(source)),
        }
    }

    /// As [`Root::remove_tree`], when nobody else wants the processor and the disk: for what nobody
    /// waits to see gone.
    pub fn remove_tree_at_leisure(&self, path: &Path) -> Result<()> {
        let Some(spot) = self.spot("remove", path)? else {
            return Ok(());
        };
        let (parent, name) = (spot.parent.as_fd(), spot.name.as_os_str());
        match Pace::Idle.one(move || remove_at(parent, name)) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(source) => Err(self.io("remove", path)(source)),
        }
    }

    /// Gives everything below `path`, links included, to one user and group (`None`: as it is), with
    /// the modes that git knows: 0755 for folders and for files that their owner may run, 0644 for
    /// other files. Links are never followed. The folder itself comes last, so that a tree that was
    /// closed to others stays so until all of it is done.
    pub fn own_tree(&self, path: &Path, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let spot = self.spot_in_place("change", path)?;
        let owner = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        own_at(&spot.parent, &spot.name, owner).map_err(self.io("change", path))
    }

    /// Waits until everything written so far to the filesystem that holds the folder `path` is on
    /// disk: one wait for a whole tree of new files.
    pub fn sync_all(&self, path: &Path) -> Result<()> {
        let spot = self.spot_in_place("sync", path)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(&spot.parent, spot.name.as_os_str(), flags, Mode::empty())
            .and_then(syncfs)
            .map_err(self.io("sync", path))
    }
}

fn own_at(
    parent: impl AsFd,
    name: &OsStr,
    (uid, gid): (Option<Uid>, Option<Gid>),
) -> nix::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let fd = match openat(parent.as_fd(), name, flags, Mode::empty()) {
        Ok(fd) => fd,
        // A link, or a socket: its owner is all there is to set.
        Err(Errno::ELOOP | Errno::ENXIO) => {
            return fchownat(parent, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW);
        }
        Err(error) => return Err(error),
    };
    let meta = Meta::from(fstat(&fd)?);
    if meta.kind != FileKind::Directory {
        fchown(&fd, uid, gid)?;
        let mode = if meta.mode & 0o100 != 0 { 0o755 } else { 0o644 };
        return fchmod(&fd, Mode::from_bits_truncate(mode));
    }
    let mut dir = Dir::from_fd(fd)?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        if !is_dots(entry.file_name()) {
            names.push(entry.file_name().to_owned());
        }
    }
    for child in &names {
        own_at(&dir, OsStr::from_bytes(child.to_bytes()), (uid, gid))?;
    }
    fchown(&dir, uid, gid)?;
    fchmod(&dir, Mode::from_bits_truncate(0o755))
}

pub(super) fn remove_at(parent: impl AsFd, name: &OsStr) -> nix::Result<()> {
    match unlinkat(parent.as_fd(), name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR | Errno::EPERM) => {}
        done => return done,
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut dir = Dir::openat(parent.as_fd(), name, flags, Mode::empty())?;
    let mut names: Vec<(std::ffi::CString, Option<Type>)> = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        names.push((entry.file_name().to_owned(), entry.file_type()));
    }
    for (child, kind) in names {
        if is_dots(&child) {
            continue;
        }
        let child = {
            use std::os::unix::ffi::OsStrExt;
            OsStr::from_bytes(child.to_bytes()).to_owned()
        };
        match kind {
            Some(Type::Directory) | None => remove_at(&dir, &child)?,
            Some(_) => unlinkat(&dir, child.as_os_str(), UnlinkatFlags::NoRemoveDir)?,
        }
    }
    unlinkat(parent.as_fd(), name, UnlinkatFlags::RemoveDir)
}

pub(super) fn is_dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}
