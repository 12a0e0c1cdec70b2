//! Removes a whole tree, without ever leaving it or its mount.
//!
//! The tree's author decides how deep and wide it is. So the removal keeps two descriptors open at any depth,
//! reads a bounded number of names of a folder at once, and times out even while another process keeps
//! writing to the tree.
//!
//! A tree's owner may have moved something into it that he could not remove himself: a folder of another user
//! with a database, say. So root empties only folders that have the same owner as their parent, or whose
//! parent is root's own.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::openat;
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{UnlinkatFlags, syncfs, unlinkat};

use super::entry_name::is_dot_or_dot_dot;
use super::mounts::{FOLDER_FLAGS, open_beneath, shorten_path};
use super::owner_rule::is_same_owner_or_root;
use super::{Result, Root, RootError};
use crate::ports::watchdog;
use crate::ports::worker_pool::Priority;

/// Time until all writes to a filesystem are on disk. A sync cannot report progress, and it includes the
/// writes of other processes: gigabytes of memory onto a slow disk.
pub(super) const SYNC_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Time to remove a tree that nothing waits for, or that only root can write in. The next removal continues
/// where this one ended.
pub(super) const REMOVE_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Time to remove something that is in the way of a resource.
const OBSTACLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Subfolders of one folder that are entered before its names are read again.
const BATCH_SIZE: usize = 1024;

/// Entries of one folder that may fail to be removed before the rest of it is skipped.
const MAX_STUCK: usize = 1024;

/// Times that a folder is emptied again while another process writes to it.
const MAX_RETRIES: u32 = 3;

impl Root {
    /// Removes `path` and everything below it. Removes links without following them; leaves mounts, with the
    /// folders above them. A missing path is no error.
    ///
    /// Removes as much as possible; the error names the first entry that could not be removed.
    pub(crate) fn remove_tree(&self, path: &Path) -> Result<()> {
        match self.resolve_path("remove", path)? {
            Some(resolved) => remove_at(&resolved.parent, &resolved.name, path, REMOVE_TIMEOUT),
            None => Ok(()),
        }
    }

    /// Like [`Root::remove_tree`], for something in the way of a resource: with a short timeout, so that its
    /// owner cannot delay the pass.
    pub(crate) fn remove_obstacle(&self, path: &Path) -> Result<()> {
        match self.resolve_path("remove", path)? {
            Some(resolved) => remove_at(&resolved.parent, &resolved.name, path, OBSTACLE_TIMEOUT),
            None => Ok(()),
        }
    }

    /// Like [`Root::remove_tree`], at idle processor and disk priority: for trees that nothing waits for.
    pub(crate) fn remove_tree_idle(&self, path: &Path) -> Result<()> {
        let Some(resolved) = self.resolve_path("remove", path)? else {
            return Ok(());
        };
        let (parent, name) = (resolved.parent.as_fd(), resolved.name.as_os_str());
        Priority::Idle.run(move || remove_at(parent, name, path, REMOVE_TIMEOUT))
    }

    /// Waits until all writes so far to the filesystem of the folder `path` are on disk: one sync for a whole
    /// tree of new files.
    pub(crate) fn sync_filesystem(&self, path: &Path) -> Result<()> {
        let resolved = self.require_path("sync", path)?;
        let _operation = watchdog::begin(format!("sync {}", path.display()), SYNC_TIMEOUT);
        openat(
            &resolved.parent,
            resolved.name.as_os_str(),
            FOLDER_FLAGS,
            Mode::empty(),
        )
        .and_then(syncfs)
        .map_err(self.io_error("sync", path))
    }
}

/// A folder on the path from the top of the tree to the current one.
struct FolderLevel {
    name: OsString,
    id: (u64, u64),
    owner: u32,
    /// Subfolders that have not been entered yet.
    todo: Vec<OsString>,
    /// It has more subfolders than were read.
    more: bool,
    /// Entries that could not be removed.
    stuck: BTreeSet<OsString>,
    tries: u32,
}

/// Identifies a folder, to detect that another process moved or replaced it: that ends the removal.
fn file_id(folder: impl AsFd) -> nix::Result<(u64, u64)> {
    let stat = fstat(folder)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Opens the parent of `folder`, if it is still the folder that `folder` was entered from.
pub(super) fn open_parent(folder: impl AsFd, id: (u64, u64)) -> nix::Result<OwnedFd> {
    let up = openat(folder, "..", FOLDER_FLAGS, Mode::empty())?;
    match file_id(&up)? == id {
        true => Ok(up),
        false => Err(Errno::ESTALE),
    }
}

struct Removal<'a> {
    /// For messages.
    path: &'a Path,
    levels: Vec<FolderLevel>,
    first_error: Option<RootError>,
    started: Instant,
    limit: Duration,
}

/// Removes the entry `name`, within `limit`.
pub(super) fn remove_at(
    parent: impl AsFd,
    name: &OsStr,
    path: &Path,
    limit: Duration,
) -> Result<()> {
    let parent = parent.as_fd();
    let mut removal = Removal {
        path,
        levels: Vec::new(),
        first_error: None,
        started: Instant::now(),
        limit,
    };
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        // Linux returns EISDIR for a folder, POSIX EPERM; EPERM also stands for an immutable file.
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(source) => return Err(removal.error(None, source)),
    }
    let top = match open_beneath(parent, Path::new(name)) {
        Ok(top) => top,
        Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::ENOTDIR) => return Err(removal.error(None, Errno::EPERM)),
        Err(source) => return Err(removal.error(None, source)),
    };
    let holder = fstat(parent).map_err(|source| removal.error(None, source))?;
    if !removal.enter_folder(&top, name, &parent, holder.st_uid)? {
        return removal.first_error.map_or(Ok(()), Err);
    }
    let mut current = top;
    while let Some(next) = removal.next_folder(&current, &parent)? {
        watchdog::record_progress();
        current = next;
    }
    removal.first_error.map_or(Ok(()), Err)
}

impl Removal<'_> {
    fn error(&self, name: Option<&OsStr>, source: Errno) -> RootError {
        let way = self.levels.iter().skip(1).map(|level| level.name.clone());
        let path = shorten_path(self.path, way.chain(name.map(OsStr::to_owned)));
        RootError::from_errno("remove", path, source)
    }

    /// Records an entry that could not be removed; the removal of the rest continues.
    fn record_failure(&mut self, name: &OsStr, source: Errno) {
        let error = self.error(Some(name), source);
        self.first_error.get_or_insert(error);
        self.mark_stuck(name);
    }

    fn mark_stuck(&mut self, name: &OsStr) {
        if let Some(level) = self.levels.last_mut() {
            level.stuck.insert(name.to_owned());
        }
    }

    /// Enters a folder in `holder`, which belongs to `outer`, and removes everything in it except subfolders.
    /// `false`: it belongs to another user, so it stays unless it is already empty.
    fn enter_folder(
        &mut self,
        folder: &OwnedFd,
        name: &OsStr,
        holder: &impl AsFd,
        outer: u32,
    ) -> Result<bool> {
        let stat = fstat(folder).map_err(|source| self.error(Some(name), source))?;
        if !is_same_owner_or_root(outer, stat.st_uid) {
            if unlinkat(holder, name, UnlinkatFlags::RemoveDir).is_err() {
                self.record_foreign_owner(name, stat.st_uid);
            }
            return Ok(false);
        }
        self.levels.push(FolderLevel {
            name: name.to_owned(),
            id: (stat.st_dev, stat.st_ino),
            owner: stat.st_uid,
            todo: Vec::new(),
            more: false,
            stuck: BTreeSet::new(),
            tries: 0,
        });
        self.remove_files(folder)?;
        Ok(true)
    }

    fn record_foreign_owner(&mut self, name: &OsStr, owner: u32) {
        let way = self.levels.iter().skip(1).map(|level| level.name.clone());
        let name = (!self.levels.is_empty()).then(|| name.to_owned());
        let foreign = RootError::ForeignOwner {
            verb: "remove",
            path: shorten_path(self.path, way.chain(name.clone())),
            owner,
        };
        self.first_error.get_or_insert(foreign);
        self.mark_stuck(name.as_deref().unwrap_or_default());
    }

    fn check_timeout(&self) -> Result<()> {
        match self.started.elapsed() < self.limit {
            true => Ok(()),
            false => Err(RootError::RemoveTimedOut {
                path: self.path.into(),
                limit: self.limit,
            }),
        }
    }

    fn remove_files(&mut self, folder: &OwnedFd) -> Result<()> {
        let listed = openat(folder, ".", FOLDER_FLAGS, Mode::empty()).and_then(Dir::from_fd);
        let mut dir = listed.map_err(|source| self.error(None, source))?;
        let (mut todo, mut more) = (Vec::new(), false);
        for entry in dir.iter() {
            watchdog::record_progress();
            self.check_timeout()?;
            let entry = entry.map_err(|source| self.error(None, source))?;
            if is_dot_or_dot_dot(entry.file_name()) {
                continue;
            }
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            let level = self.levels.last().expect("a folder is entered first");
            if level.stuck.contains(name) {
                continue;
            }
            if level.stuck.len() >= MAX_STUCK {
                break;
            }
            if todo.len() >= BATCH_SIZE {
                more = true;
                break;
            }
            if entry.file_type() == Some(Type::Directory) {
                todo.push(name.to_owned());
                continue;
            }
            match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(Errno::EISDIR) => todo.push(name.to_owned()),
                Err(source) => self.record_failure(name, source),
            }
        }
        let level = self.levels.last_mut().expect("a folder is entered first");
        (level.todo, level.more) = (todo, more);
        Ok(())
    }

    /// Moves one folder down, or one up. Returns the folder to continue in; `None` when done.
    fn next_folder(&mut self, current: &OwnedFd, parent: &impl AsFd) -> Result<Option<OwnedFd>> {
        while let Some(name) = self.levels.last_mut().and_then(|level| level.todo.pop()) {
            self.check_timeout()?;
            let outer = self.levels.last().map_or(0, |level| level.owner);
            match open_beneath(current, Path::new(&name)) {
                Ok(folder) => {
                    if self.enter_folder(&folder, &name, current, outer)? {
                        return Ok(Some(folder));
                    }
                }
                Err(Errno::ENOENT) => {}
                // Another process replaced it meanwhile.
                Err(Errno::ENOTDIR | Errno::ELOOP) => {
                    match unlinkat(current, name.as_os_str(), UnlinkatFlags::NoRemoveDir) {
                        Ok(()) | Err(Errno::ENOENT) => {}
                        Err(source) => self.record_failure(&name, source),
                    }
                }
                Err(source) => self.record_failure(&name, source),
            }
        }
        if self.levels.last().is_some_and(|level| level.more) {
            self.remove_files(current)?;
            return self.reopen(current);
        }
        self.leave_folder(current, parent)
    }

    fn reopen(&self, current: &OwnedFd) -> Result<Option<OwnedFd>> {
        let same = current.try_clone().map_err(|_| Errno::EMFILE);
        same.map(Some).map_err(|source| self.error(None, source))
    }

    fn leave_folder(&mut self, current: &OwnedFd, parent: &impl AsFd) -> Result<Option<OwnedFd>> {
        let level = self.levels.pop().expect("the top is the last to go");
        let up = match self.levels.last() {
            Some(outer) => {
                let up = open_parent(current, outer.id);
                Some(up.map_err(|source| self.error(Some(&level.name), source))?)
            }
            None => None,
        };
        let holder = up.as_ref().map_or(parent.as_fd(), |up| up.as_fd());
        if !level.stuck.is_empty() {
            self.mark_stuck(&level.name);
            return Ok(up);
        }
        match unlinkat(holder, level.name.as_os_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(Errno::ENOTEMPTY | Errno::EEXIST) if level.tries < MAX_RETRIES => {
                let tries = level.tries + 1;
                self.levels.push(FolderLevel { tries, ..level });
                self.remove_files(current)?;
                return self.reopen(current);
            }
            Err(source) if self.levels.is_empty() => {
                let error = self.error(None, source);
                self.first_error.get_or_insert(error);
            }
            Err(source) => self.record_failure(&level.name, source),
        }
        Ok(up)
    }
}
