//! Removing a whole tree without ever leaving it.

use std::ffi::{CStr, OsStr};
use std::os::fd::AsFd;
use std::path::Path;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{Result, Root};

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
}

fn remove_at(parent: impl AsFd, name: &OsStr) -> nix::Result<()> {
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

fn is_dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}
