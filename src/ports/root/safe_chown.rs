//! Changes owners safely: only of files known to be trueup's or the new owner's, even if a user can rename
//! them meanwhile.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, fstat, fstatat};
use nix::unistd::geteuid;

use super::attrs::chown_at;
use super::entry_name::is_dot_or_dot_dot;
use super::mounts::FOLDER_FLAGS;
use super::{Attrs, FileKind, Meta, ResolvedPath, Result, Root, RootError};

impl Root {
    /// Refuses to change owner or mode of something that a user who can rename in its folder may have put
    /// there, unless it already belongs to the new owner. Allows a folder that holds only files of the new
    /// owner.
    pub(super) fn check_chown_target(
        &self,
        path: &Path,
        resolved: &ResolvedPath,
        fd: &OwnedFd,
        meta: &Meta,
        attrs: &Attrs,
    ) -> Result<()> {
        let io = self.io_error("change", path);
        let owner = match attrs.uid {
            Some(uid) => uid,
            None => fstat(&resolved.parent).map_err(&io)?.st_uid,
        };
        if meta.uid == owner || meta.kind == FileKind::Symlink || self.is_in_trusted_folder(path)? {
            return Ok(());
        }
        let harmless =
            meta.kind == FileKind::Directory && contains_only_files_of(fd, owner).map_err(&io)?;
        match harmless {
            true => Ok(()),
            false => Err(RootError::ForeignOwner {
                verb: "change",
                path: path.into(),
                owner: meta.uid,
            }),
        }
    }
}

/// Opens the folder that trueup just created, and not one that another user put in its place: chown would
/// give that one away with its content.
pub(super) fn open_new_folder(parent: impl AsFd, name: &OsStr) -> nix::Result<File> {
    let folder = openat(parent, name, FOLDER_FLAGS, Mode::empty())?;
    let mut dir = Dir::from_fd(openat(&folder, ".", FOLDER_FLAGS, Mode::empty())?)?;
    let is_own = fstat(&folder)?.st_uid == geteuid().as_raw();
    let is_empty = dir
        .iter()
        .all(|entry| entry.is_ok_and(|entry| is_dot_or_dot_dot(entry.file_name())));
    match is_own && is_empty {
        true => Ok(File::from(folder)),
        false => Err(Errno::ESTALE),
    }
}

/// Changes the owner of the link that trueup just created, and of nothing that another user put in its place.
pub(super) fn chown_new_link(
    parent: impl AsFd,
    name: &OsStr,
    target: &OsStr,
    attrs: &Attrs,
) -> nix::Result<()> {
    if attrs.uid.is_none() && attrs.gid.is_none() {
        return Ok(());
    }
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let link = openat(parent, name, flags, Mode::empty())?;
    let meta = Meta::from(fstat(&link)?);
    let is_own = meta.kind == FileKind::Symlink && meta.uid == geteuid().as_raw();
    // An empty path means the open link itself.
    if !is_own || meta.links > 1 || readlinkat(&link, "")? != target {
        return Err(Errno::ESTALE);
    }
    chown_at(&link, OsStr::new(""), attrs)
}

/// Whether a folder contains only files of this user, and few.
fn contains_only_files_of(folder: &OwnedFd, uid: u32) -> nix::Result<bool> {
    const MOST: usize = 1000;
    let mut dir = Dir::from_fd(openat(folder, ".", FOLDER_FLAGS, Mode::empty())?)?;
    for (at, entry) in dir.iter().enumerate() {
        let entry = entry?;
        if is_dot_or_dot_dot(entry.file_name()) {
            continue;
        }
        let stat = fstatat(folder, entry.file_name(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let meta = Meta::from(stat);
        if at > MOST || meta.uid != uid || meta.kind == FileKind::Directory {
            return Ok(false);
        }
    }
    Ok(true)
}
