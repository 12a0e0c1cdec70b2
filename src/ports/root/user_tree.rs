//! Work that root does in a lesser user's tree: no further down than the user himself could go.
//!
//! Root may enter every folder, and whoever owns a folder can rename another one into it, with all that
//! is in there: a folder of root's that is closed to him. So a folder is entered only if it belongs to
//! whoever owns the folder that it is in. Into one of root's nobody else puts anything: what is in
//! there may be anybody's. The same goes for files that root reads, moves or removes.

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

use super::carry::{is_too_deep, too_much};
use super::mounts::{OPEN, mount_id};
use super::read::errno;
use super::tree::is_dots;
use super::{FileKind, Folder, Meta, Result, Root, RootError};
use crate::ports::watchdog;

/// A tree that a lesser user may own.
pub struct UserTree {
    top: Rc<Folder>,
    /// Where the last look was: many come one after the other.
    last: RefCell<Option<(PathBuf, Rc<Folder>)>>,
}

/// Something in a [`UserTree`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: FileKind,
    /// Who owns it, if that is somebody else than root may do the owner's work for.
    pub foreign: Option<u32>,
}

/// How much of a tree is looked at: whoever made it would decide what that takes.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// Files, links and folders.
    pub entries: usize,
    /// All their paths together, in bytes.
    pub names: usize,
}

impl Root {
    /// Opens the top of a tree. `None`: there is nothing. What is mounted there, root put there.
    pub fn user_tree(&self, path: &Path) -> Result<Option<UserTree>> {
        let Some(top) = self.open_folder(path)? else {
            return Ok(None);
        };
        let outer = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let outer = openat(&top.fd, "..", outer, Mode::empty());
        let outer = outer.map_err(self.io("look at", path))?;
        let holder = fstat(&outer).map_err(self.io("look at", path))?.st_uid;
        let own = top.owner()?;
        if !is_as_his(holder, own) && !is_mount(&outer, &top).map_err(self.io("look at", path))? {
            return Err(foreign(&top, own));
        }
        Ok(Some(UserTree::of(Rc::new(top))))
    }
}

/// Whether root does with what `inner` owns, in a folder of `outer`'s, what it does with that one's own.
pub(super) fn is_as_his(outer: u32, inner: u32) -> bool {
    outer == inner || outer == 0
}

fn is_mount(outer: impl AsFd, top: &Folder) -> nix::Result<bool> {
    Ok(mount_id(outer)? != mount_id(&top.fd)?)
}

fn foreign(folder: &Folder, owner: u32) -> RootError {
    RootError::Foreign {
        verb: "enter",
        path: folder.path().into(),
        owner,
    }
}

impl UserTree {
    fn of(top: Rc<Folder>) -> UserTree {
        UserTree {
            top,
            last: RefCell::default(),
        }
    }

    /// The filesystem of its top.
    pub fn device(&self) -> Result<u64> {
        Ok(self.top.meta(OsStr::new("."))?.device)
    }

    /// Waits until everything written so far to that filesystem is on disk.
    pub fn sync_filesystem(&self) -> Result<()> {
        self.top.sync_filesystem()
    }

    /// The tree at a path below the top. `None`: there is nothing, or no folder.
    pub fn below(&self, way: &Path) -> Result<Option<UserTree>> {
        Ok(self.folder(way)?.map(UserTree::of))
    }

    /// The folder at a path below the top, or the top for an empty one. `None`: there is nothing, or
    /// no folder. One that is somebody else's, or mounted, is an error.
    pub fn folder(&self, way: &Path) -> Result<Option<Rc<Folder>>> {
        watchdog::progress();
        if let Some((last, folder)) = &*self.last.borrow()
            && last.as_os_str() == way.as_os_str()
        {
            return Ok(Some(folder.clone()));
        }
        let mut here = self.top.clone();
        for part in way.components() {
            match here.enter(Path::new(part.as_os_str()))? {
                Some(inner) => here = Rc::new(inner),
                None => return Ok(None),
            }
        }
        self.last.replace(Some((way.into(), here.clone())));
        Ok(Some(here))
    }

    /// What is at a path below the top; of a link, the link itself.
    pub fn find(&self, path: &Path) -> Result<Option<Entry>> {
        let folder = self.folder(path.parent().unwrap_or(Path::new("")))?;
        match folder.zip(path.file_name()) {
            Some((folder, name)) => folder.entry(name, folder.owner()?),
            None => Ok(None),
        }
    }

    /// Everything below the top that may be entered, every folder before what is in it, with its way
    /// from there. Not what is mounted there, nor what is deeper than any project's.
    pub fn walk(&self, most: Most) -> Result<Vec<(PathBuf, Entry)>> {
        let (mut found, mut names) = (Vec::new(), 0);
        let mut todo = vec![PathBuf::new()];
        while let Some(way) = todo.pop() {
            let folder = match self.folder(&way) {
                Ok(Some(folder)) => folder,
                Ok(None) => continue,
                Err(error) if error.is_out_of_bounds() => continue,
                Err(error) => return Err(error),
            };
            let owner = folder.owner()?;
            folder.each(|name, _| {
                let Some(entry) = folder.entry(name, owner)? else {
                    return Ok(());
                };
                if found.len() >= most.entries {
                    return Err(too_much(&self.top, most.entries, "files"));
                }
                let path = way.join(name);
                names += path.as_os_str().len();
                if names > most.names {
                    return Err(too_much(&self.top, most.names, "bytes of names"));
                }
                let enters = entry.kind == FileKind::Directory && entry.foreign.is_none();
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
    fn owner(&self) -> Result<u32> {
        let stat = fstat(&self.fd).map_err(|source| self.io("look at", OsStr::new(""), source))?;
        Ok(stat.st_uid)
    }

    fn enter(&self, name: &Path) -> Result<Option<Folder>> {
        let Some(inner) = self.inside(name)? else {
            return Ok(None);
        };
        let own = inner.owner()?;
        match is_as_his(self.owner()?, own) {
            true => Ok(Some(inner)),
            false => Err(foreign(&inner, own)),
        }
    }

    fn entry(&self, name: &OsStr, owner: u32) -> Result<Option<Entry>> {
        let Some(stat) = self.stat(name)? else {
            return Ok(None);
        };
        let foreign = !is_as_his(owner, stat.st_uid);
        Ok(Some(Entry {
            kind: Meta::from(stat).kind,
            foreign: foreign.then_some(stat.st_uid),
        }))
    }

    /// Whether a file that was opened in this folder is none that its owner may be kept from.
    pub(super) fn holds_as_own(&self, name: &OsStr, file: &File) -> Result<bool> {
        let meta = file.metadata();
        let meta = meta.map_err(|error| self.io("look at", name, errno(&error)))?;
        Ok(is_as_his(self.owner()?, meta.uid()))
    }

    /// Calls `visit` for each thing in the folder, in no particular order: holds no list of them.
    pub(super) fn each(&self, mut visit: impl FnMut(&OsStr, FileKind) -> Result<()>) -> Result<()> {
        let io = |source| self.io("list", OsStr::new(""), source);
        let own = openat(&self.fd, ".", OPEN, Mode::empty()).map_err(io)?;
        let mut dir = Dir::from_fd(own).map_err(io)?;
        for entry in dir.iter() {
            let entry = entry.map_err(io)?;
            if is_dots(entry.file_name()) {
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

    /// Removes a file or link of the folder, never a folder that somebody put in its place. What is not
    /// there is no error.
    pub fn unlink(&self, name: &OsStr) -> Result<()> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT | Errno::EISDIR) => Ok(()),
            Err(source) => Err(self.io("remove", name, source)),
        }
    }
}
