//! Copies a whole tree, or moves files, into another folder, with their owners and modes.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, RenameFlags, renameat2};
use nix::sys::stat::{FileStat, fstatat, futimens};
use nix::sys::time::TimeSpec;

use super::attrs::set_file_attrs;
use super::limits::{MAX_DEPTH, MAX_ENTRIES, is_too_deep, limit_exceeded};
use super::read::errno_of;
use super::{Attrs, FileCopier, FileKind, Folder, Meta, Result, Root, RootError};
use crate::ports::exec::StopFlag;
use crate::ports::worker_pool::{Priority, WorkerPoolError};

/// Most bytes for the paths of a tree's folders.
const MAX_NAMES_BYTES: usize = 32 << 20;

/// Free space that a copy leaves to others, in bytes.
const FREE_SPACE_MARGIN: u64 = 16 << 20;

/// Result of moving a file into another folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MoveOutcome {
    /// The file was moved.
    Moved,
    /// The name exists in the target folder. Nothing was changed.
    NameTaken,
}

impl Root {
    /// Copies `from`, with everything below it, to `to`, where nothing may exist. The kernel copies the
    /// files, as reflinks where the filesystem supports them; links are copied as written. Files keep owner,
    /// mode (without set-id bits) and times, so nobody can read more in the copy than in the original. Skips
    /// sockets, pipes and devices; keeps holes.
    ///
    /// The tree's author may not be trusted: a tree is refused if it contains a mount, exceeds the space free
    /// for unprivileged users, or is larger or deeper than any project's. Removes a copy that failed.
    pub(crate) fn copy_tree(&self, from: &Path, to: &Path, stop: &StopFlag) -> Result<()> {
        let (top, target) = (self.open_parent_folder(from)?, self.open_parent_folder(to)?);
        let copy = TreeCopier {
            copier: FileCopier::default(),
            privileged: self.is_privileged(),
        };
        let (name, new) = (last_part(from), last_part(to));
        if top.meta(name)?.kind != FileKind::Directory {
            return copy.copy_entry(&top, name, &target, new);
        }
        target.create_folder(new, &Attrs::mode(0o700))?;
        let copied = copy.copy_folder((&top, from), (&target, to), stop);
        if copied.is_err() {
            let _ = target.remove_tree(new);
        }
        copied
    }

    fn open_parent_folder(&self, path: &Path) -> Result<Folder> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        let folder = self.open_folder(parent)?;
        folder.ok_or_else(|| self.io_error("open", parent)(Errno::ENOENT))
    }
}

fn last_part(path: &Path) -> &OsStr {
    path.file_name().unwrap_or(OsStr::new("."))
}

struct TreeCopier {
    copier: FileCopier,
    privileged: bool,
}

/// The content of a tree to copy.
#[derive(Default)]
struct TreeListing {
    /// With the attributes that each gets at the end.
    folders: BTreeMap<PathBuf, Attrs>,
    /// Disk space of its files, in bytes.
    bytes: u64,
    /// One of its files, with its folder, to probe for reflinks.
    sample: Option<(PathBuf, OsString)>,
}

impl TreeCopier {
    fn copy_folder(
        &self,
        (top, from): (&Folder, &Path),
        (target, to): (&Folder, &Path),
        stop: &StopFlag,
    ) -> Result<()> {
        let (name, new) = (last_part(from), last_part(to));
        let missing = |path: &Path, errno| RootError::Io {
            verb: "copy",
            path: path.into(),
            errno,
        };
        let source = top.open_subfolder(name.as_ref())?;
        let source = source.ok_or_else(|| missing(from, Errno::ENOENT))?;
        let made = target.open_subfolder(new.as_ref())?;
        let made = made.ok_or_else(|| missing(to, Errno::ENOENT))?;
        let tree = self.list_tree(&source)?;
        self.check_free_space(&tree, &source, &made)?;
        for folder in tree
            .folders
            .keys()
            .filter(|path_below| path_below.parent().is_some())
        {
            let parent = made.open_subfolder(folder.parent().unwrap_or(Path::new("")))?;
            let parent = parent.ok_or_else(|| missing(folder, Errno::ENOENT))?;
            parent.create_folder(last_part(folder), &Attrs::mode(0o700))?;
        }
        let all: Vec<&PathBuf> = tree.folders.keys().collect();
        let copied = Priority::Normal.run_all(&all, stop, |folder| {
            let both = source
                .open_subfolder(folder)?
                .zip(made.open_subfolder(folder)?);
            let (source, made) = both.ok_or_else(|| missing(folder, Errno::ENOENT))?;
            self.copy_files(&source, &made)
        });
        match copied {
            Ok(()) => {}
            Err(WorkerPoolError::Failed(error)) => return Err(error),
            Err(WorkerPoolError::Stopped) => return Err(missing(to, Errno::EINTR)),
        }
        // Last and bottom-up: the mode of a folder may lock out its own owner.
        for (folder, attrs) in tree.folders.iter().rev() {
            if let Some(made) = made.open_subfolder(folder)? {
                made.set_attrs(attrs)?;
            }
        }
        Ok(())
    }

    fn copied_attrs(&self, mode: u32, uid: u32, gid: u32) -> Attrs {
        Attrs {
            mode: Some(mode & 0o1777),
            uid: self.privileged.then_some(uid),
            gid: self.privileged.then_some(gid),
        }
    }

    /// Lists all folders of a tree, and adds up the disk space of its files.
    fn list_tree(&self, top: &Folder) -> Result<TreeListing> {
        let meta = top.meta(OsStr::new("."))?;
        let own = self.copied_attrs(meta.mode, meta.uid, meta.gid);
        let mut tree = TreeListing::default();
        tree.folders.insert(PathBuf::new(), own);
        let (mut todo, mut entries, mut text) = (vec![PathBuf::new()], 0, 0);
        while let Some(path_below) = todo.pop() {
            let Some(here) = top.open_subfolder(&path_below)? else {
                continue;
            };
            here.for_each_entry(|name, kind| {
                entries += 1;
                if entries > MAX_ENTRIES {
                    return Err(limit_exceeded(top.path(), MAX_ENTRIES, "files"));
                }
                if !matches!(kind, FileKind::Directory | FileKind::File) {
                    return Ok(());
                }
                let Some(meta) = here.find(name)? else {
                    return Ok(());
                };
                if kind == FileKind::File {
                    tree.bytes = tree.bytes.saturating_add(meta.disk_bytes);
                    tree.sample
                        .get_or_insert_with(|| (path_below.clone(), name.into()));
                    return Ok(());
                }
                let inner = path_below.join(name);
                if is_too_deep(&inner) {
                    return Err(limit_exceeded(
                        top.path(),
                        MAX_DEPTH,
                        "folders inside one another",
                    ));
                }
                text += inner.as_os_str().len();
                if text > MAX_NAMES_BYTES {
                    return Err(limit_exceeded(
                        top.path(),
                        MAX_NAMES_BYTES,
                        "bytes of names",
                    ));
                }
                let attrs = self.copied_attrs(meta.mode, meta.uid, meta.gid);
                tree.folders.insert(inner.clone(), attrs);
                todo.push(inner);
                Ok(())
            })?;
        }
        Ok(tree)
    }

    /// Refuses a tree that does not fit. Reflinks take almost no space.
    fn check_free_space(&self, tree: &TreeListing, from: &Folder, to: &Folder) -> Result<()> {
        if tree.bytes.saturating_add(FREE_SPACE_MARGIN) <= to.free_space()?.bytes {
            return Ok(());
        }
        let sample = match &tree.sample {
            Some((path_below, name)) => from
                .open_subfolder(path_below)?
                .map(|folder| folder.open_file(name)),
            None => None,
        };
        match sample.transpose()?.flatten() {
            Some(file) if FileCopier::probe_reflink(&file, to) => Ok(()),
            _ => Err(to.io_error("write", OsStr::new(""), Errno::ENOSPC)),
        }
    }

    /// Copies the files and links of one folder.
    fn copy_files(&self, from: &Folder, to: &Folder) -> Result<()> {
        from.for_each_entry(|name, kind| match kind {
            FileKind::File | FileKind::Symlink => self.copy_entry(from, name, to, name),
            FileKind::Directory | FileKind::Other => Ok(()),
        })
    }

    fn copy_entry(&self, from: &Folder, name: &OsStr, to: &Folder, new: &OsStr) -> Result<()> {
        let meta = from.meta(name)?;
        match meta.kind {
            FileKind::Symlink => {
                let attrs = self.copied_attrs(0, meta.uid, meta.gid);
                to.create_symlink(new, &from.read_link(name)?, &attrs)
            }
            FileKind::File => match from.open_file(name)? {
                Some(source) => self.copy_open_file(&source, to, new),
                None => Ok(()),
            },
            FileKind::Directory | FileKind::Other => Ok(()),
        }
    }

    fn copy_open_file(&self, source: &File, to: &Folder, new: &OsStr) -> Result<()> {
        // Stat the open file: the name may refer to another file by now.
        let io = |error: std::io::Error| to.io_error("write", new, errno_of(&error));
        let meta = source.metadata().map_err(io)?;
        let attrs = self.copied_attrs(meta.mode() & 0o777, meta.uid(), meta.gid());
        let copied = self.copier.copy(source, to, new, &attrs)?;
        let changed = TimeSpec::new(meta.mtime(), meta.mtime_nsec());
        futimens(&copied, &changed, &changed).map_err(|error| to.io_error("write", new, error))
    }
}

impl Folder {
    /// Moves a file to another folder under the same name, with its owner, mode and times. Keeps an existing
    /// file of that name. Never reads a file that the owner of this folder may have no access to.
    pub(crate) fn move_file(&self, name: &OsStr, to: &Folder) -> Result<MoveOutcome> {
        let flags = RenameFlags::RENAME_NOREPLACE;
        match renameat2(&self.fd, name, &to.fd, name, flags) {
            Ok(()) => return Ok(MoveOutcome::Moved),
            Err(Errno::EEXIST) => return Ok(MoveOutcome::NameTaken),
            Err(Errno::EXDEV | Errno::EINVAL | Errno::ENOSYS) => {}
            Err(source) => return Err(self.io_error("move", name, source)),
        }
        // Another filesystem, or one without RENAME_NOREPLACE.
        if to.find(name)?.is_some() {
            return Ok(MoveOutcome::NameTaken);
        }
        let Some(source) = self.open_file(name)? else {
            return Err(self.io_error("move", name, Errno::ENOENT));
        };
        if !self.is_owned_like_folder(name, &source)? {
            return Err(self.io_error("move", name, Errno::EACCES));
        }
        let copy = TreeCopier {
            copier: FileCopier::default(),
            privileged: nix::unistd::geteuid().is_root(),
        };
        match copy.copy_open_file(&source, to, name) {
            Err(RootError::Io {
                errno: Errno::EEXIST,
                ..
            }) => return Ok(MoveOutcome::NameTaken),
            copied => copied?,
        }
        self.unlink(name)?;
        Ok(MoveOutcome::Moved)
    }

    /// Metadata of an entry; for a link, of the link itself. `None` if it does not exist.
    pub(crate) fn find(&self, name: &OsStr) -> Result<Option<Meta>> {
        Ok(self.stat(name)?.map(Meta::from))
    }

    pub(super) fn stat(&self, name: &OsStr) -> Result<Option<FileStat>> {
        match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(source) => Err(self.io_error("look at", name, source)),
        }
    }

    /// Whether two regular files in two folders have the same content. `false` if either is not a regular
    /// file, or one that the owner of its folder may have no access to: the result would reveal its content.
    pub(crate) fn same_content(&self, name: &OsStr, other: &Folder) -> Result<bool> {
        let Some((one, two)) = self.open_file(name)?.zip(other.open_file(name)?) else {
            return Ok(false);
        };
        if !self.is_owned_like_folder(name, &one)? || !other.is_owned_like_folder(name, &two)? {
            return Ok(false);
        }
        let io = |error: std::io::Error| self.io_error("read", name, errno_of(&error));
        let (size, other_size) = (one.metadata().map_err(io)?, two.metadata().map_err(io)?);
        if size.len() != other_size.len() {
            return Ok(false);
        }
        has_equal_bytes(one.take(size.len()), two.take(size.len())).map_err(io)
    }

    fn set_attrs(&self, attrs: &Attrs) -> Result<()> {
        let io = |source| self.io_error("change", OsStr::new(""), source);
        let own = self.fd.try_clone().map_err(|_| io(Errno::EMFILE))?;
        set_file_attrs(&File::from(own), attrs).map_err(io)
    }
}

fn has_equal_bytes(mut one: impl Read, mut two: impl Read) -> std::io::Result<bool> {
    let (mut left, mut right) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let read = one.read(&mut left)?;
        if read == 0 {
            return Ok(true);
        }
        match two.read_exact(&mut right[..read]) {
            Ok(()) if left[..read] == right[..read] => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}
