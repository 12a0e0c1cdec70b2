//! Root's access to a tree of an unprivileged user: limited to what that user could reach himself.
//!
//! Root can enter every folder, and the owner of a folder can rename another one into it with all its
//! content, even a folder of root's that is closed to him. So trueup enters a folder only if it has the same
//! owner as its parent folder. A folder of root's may hold entries of any user, since nobody else can put
//! anything there. The same rule applies to files that root reads, moves or removes.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::entry_name::is_dot_or_dot_dot;
use super::limits::{is_too_deep, limit_exceeded};
use super::mounts::{FOLDER_FLAGS, mount_id};
use super::owner_rule::is_same_owner_or_root;
use super::read::errno_of;
use super::{FileKind, Folder, Meta, Result, Root, RootError};
use crate::ports::watchdog;

/// A tree that an unprivileged user may own.
pub(crate) struct UserTree {
    top: Rc<Folder>,
    /// The folder of the last lookup: consecutive lookups often share it.
    last_folder: RefCell<Option<(PathBuf, Rc<Folder>)>>,
}

/// An entry of a [`UserTree`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserTreeEntry {
    pub kind: FileKind,
    /// Its owner, if that is a user on whose entries root may not act here.
    pub foreign_owner: Option<u32>,
}

/// Limits of a walk: the tree's author would otherwise decide what it costs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WalkLimits {
    /// Files, links and folders.
    pub entries: usize,
    /// Bytes of all their paths together.
    pub name_bytes: usize,
}

impl Root {
    /// Opens the top of a tree. `None`: it does not exist. Only root can have put a mount there.
    pub(crate) fn open_user_tree(&self, path: &Path) -> Result<Option<UserTree>> {
        let Some(top) = self.open_folder(path)? else {
            return Ok(None);
        };
        let outer = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let outer = openat(&top.fd, "..", outer, Mode::empty());
        let outer = outer.map_err(self.io_error("look at", path))?;
        let holder = fstat(&outer)
            .map_err(self.io_error("look at", path))?
            .st_uid;
        let own = top.owner_uid()?;
        if !is_same_owner_or_root(holder, own)
            && !is_mount_point(&outer, &top).map_err(self.io_error("look at", path))?
        {
            return Err(foreign_owner(&top, own));
        }
        Ok(Some(UserTree::new(Rc::new(top))))
    }
}

fn is_mount_point(outer: impl AsFd, top: &Folder) -> nix::Result<bool> {
    Ok(mount_id(outer)? != mount_id(&top.fd)?)
}

fn foreign_owner(folder: &Folder, owner: u32) -> RootError {
    RootError::ForeignOwner {
        verb: "enter",
        path: folder.path().into(),
        owner,
    }
}

impl UserTree {
    fn new(top: Rc<Folder>) -> UserTree {
        UserTree {
            top,
            last_folder: RefCell::default(),
        }
    }

    /// Device number of the top's filesystem.
    pub(crate) fn device(&self) -> Result<u64> {
        Ok(self.top.meta(OsStr::new("."))?.device)
    }

    /// Waits until all writes so far to that filesystem are on disk.
    pub(crate) fn sync_filesystem(&self) -> Result<()> {
        self.top.sync_filesystem()
    }

    /// The tree at a path below the top. `None`: it does not exist, or is no folder.
    pub(crate) fn subtree(&self, path: &Path) -> Result<Option<UserTree>> {
        Ok(self.open_folder(path)?.map(UserTree::new))
    }

    /// The folder at a path below the top, or the top for an empty path. `None`: it does not exist, or is no
    /// folder. A folder of another user, or a mount, is an error.
    pub(crate) fn open_folder(&self, path: &Path) -> Result<Option<Rc<Folder>>> {
        watchdog::record_progress();
        if let Some((last, folder)) = &*self.last_folder.borrow()
            && last.as_os_str() == path.as_os_str()
        {
            return Ok(Some(folder.clone()));
        }
        let mut current = self.top.clone();
        for part in path.components() {
            match current.open_owned_subfolder(Path::new(part.as_os_str()))? {
                Some(inner) => current = Rc::new(inner),
                None => return Ok(None),
            }
        }
        self.last_folder
            .replace(Some((path.into(), current.clone())));
        Ok(Some(current))
    }

    /// The entry at a path below the top; for a link, the link itself.
    pub(crate) fn find(&self, path: &Path) -> Result<Option<UserTreeEntry>> {
        let folder = self.open_folder(path.parent().unwrap_or(Path::new("")))?;
        match folder.zip(path.file_name()) {
            Some((folder, name)) => folder.entry(name, folder.owner_uid()?),
            None => Ok(None),
        }
    }

    /// Everything below the top that may be entered, with paths relative to it, each folder before its
    /// content. Skips mounts and whatever is deeper than any project's tree.
    pub(crate) fn walk(&self, limits: WalkLimits) -> Result<Vec<(PathBuf, UserTreeEntry)>> {
        let (mut found, mut names) = (Vec::new(), 0);
        let mut todo = vec![PathBuf::new()];
        while let Some(way) = todo.pop() {
            let folder = match self.open_folder(&way) {
                Ok(Some(folder)) => folder,
                Ok(None) => continue,
                Err(error) if error.is_out_of_bounds() => continue,
                Err(error) => return Err(error),
            };
            let owner = folder.owner_uid()?;
            folder.for_each_entry(|name, _| {
                let Some(entry) = folder.entry(name, owner)? else {
                    return Ok(());
                };
                if found.len() >= limits.entries {
                    return Err(limit_exceeded(self.top.path(), limits.entries, "files"));
                }
                let path = way.join(name);
                names += path.as_os_str().len();
                if names > limits.name_bytes {
                    return Err(limit_exceeded(
                        self.top.path(),
                        limits.name_bytes,
                        "bytes of names",
                    ));
                }
                let enters = entry.kind == FileKind::Directory && entry.foreign_owner.is_none();
                if enters && !is_too_deep(&path) {
                    todo.push(path.clone());
                }
                found.push((path, entry));
                Ok(())
            })?;
        }
        Ok(found)
    }
}

impl Folder {
    fn owner_uid(&self) -> Result<u32> {
        let stat =
            fstat(&self.fd).map_err(|source| self.io_error("look at", OsStr::new(""), source))?;
        Ok(stat.st_uid)
    }

    fn open_owned_subfolder(&self, name: &Path) -> Result<Option<Folder>> {
        let Some(inner) = self.open_subfolder(name)? else {
            return Ok(None);
        };
        let own = inner.owner_uid()?;
        match is_same_owner_or_root(self.owner_uid()?, own) {
            true => Ok(Some(inner)),
            false => Err(foreign_owner(&inner, own)),
        }
    }

    fn entry(&self, name: &OsStr, owner: u32) -> Result<Option<UserTreeEntry>> {
        let Some(stat) = self.stat(name)? else {
            return Ok(None);
        };
        let foreign = !is_same_owner_or_root(owner, stat.st_uid);
        Ok(Some(UserTreeEntry {
            kind: Meta::from(stat).kind,
            foreign_owner: foreign.then_some(stat.st_uid),
        }))
    }

    /// Whether root may access a file opened in this folder on behalf of the folder's owner.
    pub(super) fn is_owned_like_folder(&self, name: &OsStr, file: &File) -> Result<bool> {
        let meta = file.metadata();
        let meta = meta.map_err(|error| self.io_error("look at", name, errno_of(&error)))?;
        Ok(is_same_owner_or_root(self.owner_uid()?, meta.uid()))
    }

    /// Calls `visit` for each entry of the folder, in no particular order, without storing a list of them.
    pub(super) fn for_each_entry(
        &self,
        mut visit: impl FnMut(&OsStr, FileKind) -> Result<()>,
    ) -> Result<()> {
        let io = |source| self.io_error("list", OsStr::new(""), source);
        let own = openat(&self.fd, ".", FOLDER_FLAGS, Mode::empty()).map_err(io)?;
        let mut dir = Dir::from_fd(own).map_err(io)?;
        for entry in dir.iter() {
            let entry = entry.map_err(io)?;
            if is_dot_or_dot_dot(entry.file_name()) {
                continue;
            }
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            let kind = match entry.file_type() {
                Some(Type::File) => FileKind::File,
                Some(Type::Directory) => FileKind::Directory,
                Some(Type::Symlink) => FileKind::Symlink,
                Some(_) => FileKind::Other,
                None => match self.find(name)? {
                    Some(meta) => meta.kind,
                    None => continue,
                },
            };
            visit(name, kind)?;
        }
        Ok(())
    }

    /// Removes a folder of this one if it is empty. `false`: it is not, or is something else by now.
    pub(crate) fn remove_empty_folder(&self, name: &OsStr) -> Result<bool> {
        match unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(true),
            Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR | Errno::EBUSY) => Ok(false),
            Err(source) => Err(self.io_error("remove", name, source)),
        }
    }

    /// Removes a file or link of the folder, never a folder that another user put in its place. A missing
    /// entry is no error.
    pub(crate) fn unlink(&self, name: &OsStr) -> Result<()> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT | Errno::EISDIR) => Ok(()),
            Err(source) => Err(self.io_error("remove", name, source)),
        }
    }
}
