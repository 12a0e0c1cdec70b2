//! Giving something to a user: only what is known to be ours or his, whoever can rename it meanwhile.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, fstat, fstatat};
use nix::unistd::geteuid;

use super::mounts::FOLDER_FLAGS;
use super::remove_tree::is_dot_or_dot_dot;
use super::write::chown_at;
use super::{Attrs, FileKind, Meta, ResolvedPath, Result, Root, RootError};

impl Root {
    /// Refuses to give away, or to open up, what somebody who can rename in its folder may have put there:
    /// it has to be the new owner's already. A folder that holds nothing of others gives nothing away.
    pub(super) fn check_chown_target(
        &self,
        path: &Path,
        resolved: &ResolvedPath,
        fd: &OwnedFd,
        meta: &Meta,
        attrs: &Attrs,
    ) -> Result<()> {
        let io = self.io_error("change", path);
        let theirs = match attrs.uid {
            Some(uid) => uid,
            None => fstat(&resolved.parent).map_err(&io)?.st_uid,
        };
        if meta.uid == theirs
            || meta.kind == FileKind::Symlink
            || self.is_in_trusted_folder(path)?
        {
            return Ok(());
        }
        let harmless =
            meta.kind == FileKind::Directory && contains_only_files_of(fd, theirs).map_err(&io)?;
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

/// The folder that we just made, and no other that somebody put in its place: that one would be given away
/// with what is in it.
pub(super) fn open_new_folder(parent: impl AsFd, name: &OsStr) -> nix::Result<File> {
    let folder = openat(parent, name, FOLDER_FLAGS, Mode::empty())?;
    let mut dir = Dir::from_fd(openat(&folder, ".", FOLDER_FLAGS, Mode::empty())?)?;
    let ours = fstat(&folder)?.st_uid == geteuid().as_raw();
    let is_empty = dir
        .iter()
        .all(|entry| entry.is_ok_and(|entry| is_dot_or_dot_dot(entry.file_name())));
    match ours && is_empty {
        true => Ok(File::from(folder)),
        false => Err(Errno::ESTALE),
    }
}

/// Gives away the link that we just made, and nothing else that somebody put in its place.
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
    let ours = meta.kind == FileKind::Symlink && meta.uid == geteuid().as_raw();
    // Of what is open here: an empty path means the link itself.
    if !ours || meta.links > 1 || readlinkat(&link, "")? != target {
        return Err(Errno::ESTALE);
    }
    chown_at(&link, OsStr::new(""), attrs)
}

/// Whether all in a folder are files of this user, and few.
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
