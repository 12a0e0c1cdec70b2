//! Atomic changes: each takes effect completely or not at all.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, symlinkat, unlinkat};

use super::attrs::{chown_at, set_file_attrs};
use super::read::errno_of;
use super::safe_chown::{chown_new_link, open_new_folder};
use super::temporary::{create_temporary, remove_temporary};
use super::xattr::PreservedXattrs;
use super::{Attrs, FileKind, Meta, ResolvedPath, Result, Root, RootError};

impl Root {
    /// Writes a file with this content and these attributes at `path`, replacing an existing one atomically:
    /// a reader, or the host after a crash, sees either the old or the new file.
    ///
    /// ACL, label and `user.*` attributes of the replaced file are carried over if no other user could have put
    /// it there.
    pub(crate) fn write_atomic(&self, path: &Path, body: &[u8], attrs: &Attrs) -> Result<()> {
        let resolved = self.require_path("write", path)?;
        let io = self.io_error("write", path);
        let carried = self.preserved_xattrs(path, &resolved, attrs)?;
        let is_new = carried.is_none();
        // Nobody else can open it before its owner and mode are set.
        replace_file(&resolved, 0o600, body, |file| {
            if let Some(carried) = carried {
                carried.apply_to(file)?;
            }
            // Last: the ACL contains a mode.
            set_file_attrs(file, attrs)
        })
        .map_err(io)?;
        if is_new {
            self.note_new_path(path);
        }
        Ok(())
    }

    /// From now on, [`Root::take_new_paths`] returns what was created.
    pub(crate) fn record_new_paths(&self) {
        self.new_paths.replace(Some(Vec::new()));
    }

    /// The files, links and folders that were created since the last call, in their order.
    pub(crate) fn take_new_paths(&self) -> Vec<PathBuf> {
        let mut paths = self.new_paths.borrow_mut();
        paths.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn note_new_path(&self, path: &Path) {
        if let Some(paths) = self.new_paths.borrow_mut().as_mut() {
            paths.push(path.to_owned());
        }
    }

    /// Attributes to carry over from the existing file; `None`: there is none, or a user may have put it
    /// there to be able to read its replacement.
    fn preserved_xattrs(
        &self,
        path: &Path,
        resolved: &ResolvedPath,
        attrs: &Attrs,
    ) -> Result<Option<PreservedXattrs>> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let io = self.io_error("write", path);
        let old = match openat(
            &resolved.parent,
            resolved.name.as_os_str(),
            flags,
            Mode::empty(),
        ) {
            Ok(old) => old,
            Err(Errno::ENOENT) => return Ok(None),
            Err(source) => return Err(io(source)),
        };
        let meta = Meta::from(fstat(&old).map_err(&io)?);
        let maker = self.euid.as_raw();
        let same = meta.uid == attrs.uid.unwrap_or(maker);
        if meta.kind != FileKind::File || meta.links > 1 || !same {
            return Ok(None);
        }
        let carried = PreservedXattrs::read_from(&old).map_err(&io)?;
        // A user who can rename in the folder could move a file of root's there that has an ACL for him.
        let open = !carried.is_empty() && meta.uid == maker && !self.is_in_trusted_folder(path)?;
        Ok((!open).then_some(carried))
    }

    /// Overwrites a note in one call, without creating a file: for state that every pass writes and that is
    /// worthless after a crash. Notes are padded with spaces to `width` bytes, so that a shorter one leaves
    /// nothing of a longer one.
    pub(crate) fn overwrite(&self, path: &Path, body: &[u8], width: usize) -> Result<()> {
        let resolved = self.require_path("write", path)?;
        let io = self.io_error("write", path);
        let mode = Mode::from_bits_truncate(0o644);
        let mut file =
            self.open_regular_file(path, &resolved, OFlag::O_WRONLY | OFlag::O_CREAT, mode)?;
        let mut padded = body.to_vec();
        padded.resize(body.len().max(width), b' ');
        file.write_all(&padded)
            .and_then(|()| {
                let length = file.metadata()?.len();
                // The file was longer than a note: cut off the rest.
                if length > padded.len() as u64 {
                    file.set_len(padded.len() as u64)?;
                }
                Ok(())
            })
            .map_err(|error| io(errno_of(&error)))
    }

    /// Points the link at `path` to `target`, replacing an existing link or file atomically.
    pub(crate) fn replace_symlink(&self, path: &Path, target: &Path, attrs: &Attrs) -> Result<()> {
        let resolved = self.require_path("link", path)?;
        let io = self.io_error("link", path);
        let linked = create_temporary(&resolved, |name| symlinkat(target, &resolved.parent, name));
        let (temp, ()) = linked.map_err(&io)?;
        let linked = chown_new_link(&resolved.parent, &temp, target.as_os_str(), attrs)
            .and_then(|()| rename_into_place(&resolved, &temp));
        if let Err(source) = linked {
            remove_temporary(&resolved, &temp);
            return Err(RootError::from_errno("link", path.into(), source));
        }
        self.note_new_path(path);
        sync_folder(&resolved).map_err(io)
    }

    /// Creates a folder whose parent exists. An existing one gets the attributes.
    ///
    /// Like a file it is prepared under a temporary name: after a crash in between, a wrong mode could not be
    /// told from an intended one.
    pub(crate) fn create_dir(&self, path: &Path, attrs: &Attrs) -> Result<()> {
        let attrs = Attrs {
            mode: attrs.mode.or(Some(0o755)),
            ..*attrs
        };
        let resolved = self.require_path("make", path)?;
        let io = self.io_error("make", path);
        match self.meta(path)? {
            Some(meta) if meta.kind == FileKind::Directory => {
                self.set_attrs(path, &attrs)?;
                return sync_folder(&resolved).map_err(io);
            }
            Some(_) => return Err(io(Errno::ENOTDIR)),
            None => {}
        }
        // Closed to others until owner and mode are set.
        let closed = Mode::from_bits_truncate(0o700);
        let made = create_temporary(&resolved, |name| mkdirat(&resolved.parent, name, closed));
        let (temp, ()) = made.map_err(&io)?;
        let made = open_new_folder(&resolved.parent, &temp)
            .and_then(|folder| set_file_attrs(&folder, &attrs))
            .and_then(|()| rename_into_place(&resolved, &temp));
        if let Err(source) = made {
            remove_temporary(&resolved, &temp);
            return Err(RootError::from_errno("make", path.into(), source));
        }
        self.note_new_path(path);
        sync_folder(&resolved).map_err(io)
    }

    /// Creates a folder and every missing parent. Parents get mode 0755 and belong to root; existing ones are
    /// left unchanged.
    pub(crate) fn create_dir_all(&self, path: &Path, attrs: &Attrs) -> Result<()> {
        let missing: Vec<&Path> = {
            let mut missing = Vec::new();
            for folder in path.ancestors() {
                match self.meta(folder)? {
                    Some(_) => break,
                    None => missing.push(folder),
                }
            }
            missing
        };
        for folder in missing.iter().rev() {
            let wanted = if *folder == path {
                *attrs
            } else {
                Attrs::mode(0o755)
            };
            self.create_dir(folder, &wanted)?;
        }
        Ok(())
    }

    /// Sets owner, group and mode of `path`; for a link, only its owner.
    pub(crate) fn set_attrs(&self, path: &Path, attrs: &Attrs) -> Result<()> {
        let resolved = self.require_path("change", path)?;
        let io = self.io_error("change", path);
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(
            &resolved.parent,
            resolved.name.as_os_str(),
            flags,
            Mode::empty(),
        )
        .map_err(&io)?;
        let meta = Meta::from(fstat(&fd).map_err(&io)?);
        // A hard link to the same file may be in a place that its owner must not reach.
        if meta.kind == FileKind::File && meta.links > 1 && !self.is_in_trusted_folder(path)? {
            return Err(RootError::HardLinked {
                verb: "change",
                path: path.into(),
                names: meta.links,
            });
        }
        self.check_chown_target(path, &resolved, &fd, &meta, attrs)?;
        chown_at(&fd, &OsString::new(), attrs).map_err(&io)?;
        if let (Some(mode), true) = (attrs.mode, meta.kind != FileKind::Symlink) {
            // Through /proc: an O_PATH descriptor does not support chmod, and opening it in any other way
            // could fail because of the very mode to be corrected.
            let by_fd = format!("/proc/self/fd/{}", fd.as_raw_fd());
            fchmodat(
                nix::fcntl::AT_FDCWD,
                by_fd.as_str(),
                Mode::from_bits_truncate(mode),
                FchmodatFlags::FollowSymlink,
            )
            .map_err(&io)?;
        }
        Ok(())
    }

    /// Removes a file or link; a missing one is no error.
    pub(crate) fn remove_file(&self, path: &Path) -> Result<()> {
        let Some(resolved) = self.resolve_path("remove", path)? else {
            return Ok(());
        };
        match unlinkat(
            &resolved.parent,
            resolved.name.as_os_str(),
            UnlinkatFlags::NoRemoveDir,
        ) {
            Ok(()) => sync_folder(&resolved).map_err(self.io_error("remove", path)),
            Err(Errno::ENOENT) => Ok(()),
            Err(source) => Err(self.io_error("remove", path)(source)),
        }
    }

    /// Removes an empty folder; a missing one is no error, a non-empty one is.
    pub(crate) fn remove_dir(&self, path: &Path) -> Result<()> {
        let Some(resolved) = self.resolve_path("remove", path)? else {
            return Ok(());
        };
        let name = resolved.name.as_os_str();
        match unlinkat(&resolved.parent, name, UnlinkatFlags::RemoveDir) {
            Ok(()) => sync_folder(&resolved).map_err(self.io_error("remove", path)),
            Err(Errno::ENOENT) => Ok(()),
            Err(source) => Err(RootError::from_errno("remove", path.into(), source)),
        }
    }

    /// Renames within the host. Replaces `to` if possible (a file by a file, an empty folder by a folder).
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let old = self.require_path("rename", from)?;
        let new = self.require_path("rename", to)?;
        renameat(
            &old.parent,
            old.name.as_os_str(),
            &new.parent,
            new.name.as_os_str(),
        )
        .map_err(|errno| self.explain_errno_of_either("rename", from, to, errno))?;
        sync_folder(&new).map_err(self.io_error("rename", to))
    }

    /// Opens a file for appending, creating it with these attributes if it does not exist. For logs: writes
    /// are not synced.
    pub(crate) fn open_append(&self, path: &Path, attrs: &Attrs) -> Result<File> {
        let resolved = self.require_path("write", path)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND;
        let mode = Mode::from_bits_truncate(0o600);
        let file = self.open_regular_file(path, &resolved, flags, mode)?;
        set_file_attrs(&file, attrs).map_err(self.io_error("write", path))?;
        Ok(file)
    }

    /// Opens a regular file for writing, without ever waiting: for the reader of a pipe in its place, or the
    /// holder of a lease. A hard link to it may be in a place that its owner must not reach.
    fn open_regular_file(
        &self,
        path: &Path,
        resolved: &ResolvedPath,
        flags: OFlag,
        mode: Mode,
    ) -> Result<File> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let verb = "write";
        let no_file = || RootError::NotRegularFile {
            verb,
            path: path.into(),
        };
        let fd = match openat(&resolved.parent, resolved.name.as_os_str(), flags, mode) {
            Ok(fd) => fd,
            Err(Errno::ENXIO | Errno::ELOOP | Errno::EISDIR) => return Err(no_file()),
            Err(source) => return Err(RootError::from_errno(verb, path.into(), source)),
        };
        let meta = Meta::from(fstat(&fd).map_err(self.io_error(verb, path))?);
        if meta.kind != FileKind::File || (meta.links > 1 && !self.is_in_trusted_folder(path)?) {
            return Err(no_file());
        }
        Ok(File::from(fd))
    }

    /// Opens a file for locking; only its owner can open it, because every process that can open a file can
    /// lock it.
    pub(crate) fn open_lock_file(&self, path: &Path) -> Result<File> {
        let resolved = self.require_path("lock", path)?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(0o600);
        let fd = openat(&resolved.parent, resolved.name.as_os_str(), flags, mode);
        Ok(File::from(fd.map_err(self.io_error("lock", path))?))
    }
}

/// Writes the file `name` whole, like [`Root::write_atomic`], in a folder that the caller has opened. A new file
/// gets the mode of the process's other new files.
pub(in crate::ports) fn write_in_folder(
    folder: OwnedFd,
    name: &str,
    body: &[u8],
) -> nix::Result<()> {
    let resolved = ResolvedPath {
        parent: Rc::new(folder),
        name: name.into(),
    };
    replace_file(&resolved, 0o644, body, |_| Ok(()))
}

/// The order matters: a temporary in the same folder, content, attributes, fsync, rename, fsync of the folder.
/// On any error before the rename the old file is untouched and the temporary removed.
fn replace_file(
    resolved: &ResolvedPath,
    mode: u32,
    body: &[u8],
    finish: impl FnOnce(&File) -> nix::Result<()>,
) -> nix::Result<()> {
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mode = Mode::from_bits_truncate(mode);
    let (temp, fd) =
        create_temporary(resolved, |name| openat(&resolved.parent, name, flags, mode))?;
    let mut file = File::from(fd);
    let written = file
        .write_all(body)
        .map_err(|error| errno_of(&error))
        .and_then(|()| finish(&file))
        .and_then(|()| fsync(&file))
        .and_then(|()| rename_into_place(resolved, &temp));
    if written.is_err() {
        remove_temporary(resolved, &temp);
    }
    written.and_then(|()| sync_folder(resolved))
}

fn sync_folder(resolved: &ResolvedPath) -> nix::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    match openat(&resolved.parent, ".", flags, Mode::empty()) {
        Ok(folder) => fsync(&folder),
        // A folder that is writable but not readable (an unprivileged sandbox) cannot be synced.
        Err(Errno::EACCES) => Ok(()),
        Err(source) => Err(source),
    }
}

/// Renames the temporary to the final name.
fn rename_into_place(resolved: &ResolvedPath, temp: &OsStr) -> nix::Result<()> {
    renameat(
        &resolved.parent,
        temp,
        &resolved.parent,
        resolved.name.as_os_str(),
    )
}
