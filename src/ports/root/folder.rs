//! A folder held open, for operations below it by several threads at once.
//!
//! No operation leaves the folder: names are single components, the kernel resolves paths beneath the folder
//! without following links, and files are only created: existing ones are never opened for writing.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::libc;
use nix::sys::stat::{Mode, fstatat, mkdirat};
use nix::unistd::{fsync, symlinkat, syncfs};

use super::attrs::set_file_attrs;
use super::entry_name::is_dot_or_dot_dot;
use super::limits::{MAX_ENTRIES, limit_exceeded};
use super::mounts::{FOLDER_FLAGS, open_beneath};
use super::read::errno_of;
use super::remove_tree::{REMOVE_TIMEOUT, SYNC_TIMEOUT, remove_at};
use super::safe_chown::{chown_new_link, open_new_folder};
use super::{Attrs, FileKind, Meta, Result, Root, RootError};
use crate::ports::watchdog;

/// A folder of the host, held open.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(super) fd: OwnedFd,
    /// For messages.
    path: PathBuf,
}

/// Free space of a folder's filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FreeSpace {
    /// Bytes available to unprivileged users, without root's reserve.
    pub bytes: u64,
    /// Free inodes; `None` where the filesystem does not count them.
    pub files: Option<u64>,
    /// Block size in bytes: every file takes a multiple of it.
    pub block: u64,
}

/// Size and free space of a filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DiskSpace {
    /// Device number of the filesystem.
    pub device: u64,
    /// Bytes available to unprivileged users, without root's reserve.
    pub free: u64,
    /// In bytes.
    pub total: u64,
    /// Inodes, free and total; `None` where the filesystem does not count them.
    pub files: Option<(u64, u64)>,
}

impl Root {
    /// Disk space of the filesystem that holds a path, or will hold it. `None`: no folder above it exists
    /// either.
    pub(crate) fn disk_space(&self, path: &Path) -> Result<Option<DiskSpace>> {
        for folder in path.ancestors() {
            let Some(meta) = self.meta(folder)? else {
                continue;
            };
            let Some(open) = self.open_folder(folder)? else {
                continue;
            };
            let stat = nix::sys::statvfs::fstatvfs(&open.fd)
                .map_err(|source| self.io_error("look at", folder)(source))?;
            let block = stat.fragment_size().max(1);
            return Ok(Some(DiskSpace {
                device: meta.device,
                free: stat.blocks_available().saturating_mul(block),
                total: stat.blocks().saturating_mul(block),
                files: (stat.files() > 0).then(|| (stat.files_available(), stat.files())),
            }));
        }
        Ok(None)
    }

    /// Opens a folder. `None` if it does not exist.
    pub(crate) fn open_folder(&self, path: &Path) -> Result<Option<Folder>> {
        let Some(resolved) = self.resolve_path("open", path)? else {
            return Ok(None);
        };
        match openat(
            &resolved.parent,
            resolved.name.as_os_str(),
            FOLDER_FLAGS,
            Mode::empty(),
        ) {
            Ok(fd) => Ok(Some(Folder {
                fd,
                path: path.into(),
            })),
            Err(Errno::ENOENT) => Ok(None),
            Err(source) => Err(self.io_error("open", path)(source)),
        }
    }

    /// Uid and gid of files that trueup creates without an explicit owner.
    pub(crate) fn default_owner(&self) -> (u32, u32) {
        (self.euid.as_raw(), nix::unistd::getegid().as_raw())
    }
}

impl Folder {
    /// Its descriptor, which no longer depends on its path.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    pub(super) fn io_error(&self, verb: &'static str, name: &OsStr, errno: Errno) -> RootError {
        let path = match name.is_empty() {
            true => self.path.clone(),
            false => self.path.join(name),
        };
        RootError::Io { verb, path, errno }
    }

    /// Path on the host, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the folder at a relative path below this one, or this one for an empty path. `None` if it does
    /// not exist or is no folder. A mount on the path is an error.
    pub(crate) fn open_subfolder(&self, path: &Path) -> Result<Option<Folder>> {
        watchdog::record_progress();
        let way_down = match path.as_os_str().is_empty() {
            true => Path::new("."),
            false => path,
        };
        match open_beneath(&self.fd, way_down) {
            Ok(fd) => Ok(Some(Folder {
                fd,
                path: self.path.join(path),
            })),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
            Err(source) => Err(RootError::from_errno("open", self.path.join(path), source)),
        }
    }

    /// The entries of the folder, in no particular order.
    pub(crate) fn entries(&self) -> Result<Vec<(OsString, FileKind)>> {
        let io = |source| self.io_error("list", OsStr::new(""), source);
        let own = openat(&self.fd, ".", FOLDER_FLAGS, Mode::empty()).map_err(io)?;
        let mut dir = Dir::from_fd(own).map_err(io)?;
        let mut entries = Vec::new();
        for entry in dir.iter() {
            let entry = entry.map_err(io)?;
            if is_dot_or_dot_dot(entry.file_name()) {
                continue;
            }
            let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
            let kind = match entry.file_type() {
                Some(Type::File) => FileKind::File,
                Some(Type::Directory) => FileKind::Directory,
                Some(Type::Symlink) => FileKind::Symlink,
                Some(_) => FileKind::Other,
                None => self.meta(&name)?.kind,
            };
            if entries.len() >= MAX_ENTRIES {
                return Err(limit_exceeded(self.path(), MAX_ENTRIES, "files"));
            }
            entries.push((name, kind));
        }
        Ok(entries)
    }

    /// Metadata of an entry; for a link, of the link itself.
    pub(crate) fn meta(&self, name: &OsStr) -> Result<Meta> {
        fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW)
            .map(Meta::from)
            .map_err(|source| self.io_error("look at", name, source))
    }

    /// The target of a link, as written in it.
    pub(crate) fn read_link(&self, name: &OsStr) -> Result<OsString> {
        readlinkat(&self.fd, name).map_err(|source| self.io_error("read", name, source))
    }

    /// Opens a file in the folder for reading. `None` if it does not exist or is not a regular file.
    pub(crate) fn open_file(&self, name: &OsStr) -> Result<Option<File>> {
        watchdog::record_progress();
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => {
                let file = File::from(fd);
                let plain = file.metadata().is_ok_and(|meta| meta.is_file());
                Ok(plain.then_some(file))
            }
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENXIO) => Ok(None),
            Err(source) => Err(RootError::from_errno("read", self.path.join(name), source)),
        }
    }

    /// Creates a subfolder. The name must not exist.
    pub(crate) fn create_folder(&self, name: &OsStr, attrs: &Attrs) -> Result<()> {
        // Closed to others until owner and mode are set.
        let closed = Mode::from_bits_truncate(0o700);
        let made = mkdirat(&self.fd, name, closed)
            .and_then(|()| open_new_folder(&self.fd, name))
            .and_then(|folder| set_file_attrs(&folder, attrs));
        made.map_err(|source| RootError::from_errno("make", self.path.join(name), source))
    }

    /// Creates a file with this content. The name must not exist. Does not sync: the caller does.
    pub(crate) fn create_file(&self, name: &OsStr, body: &[u8], attrs: &Attrs) -> Result<File> {
        let made = self.create_new_file(name).and_then(|mut file| {
            file.write_all(body).map_err(|error| errno_of(&error))?;
            set_file_attrs(&file, attrs)?;
            Ok(file)
        });
        made.map_err(|source| self.io_error("write", name, source))
    }

    /// Creates an empty file that nobody else can open yet.
    pub(super) fn create_new_file(&self, name: &OsStr) -> nix::Result<File> {
        watchdog::record_progress();
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(&self.fd, name, flags, Mode::from_bits_truncate(0o600)).map(File::from)
    }

    /// Creates a link. The name must not exist.
    pub(crate) fn create_symlink(&self, name: &OsStr, target: &OsStr, attrs: &Attrs) -> Result<()> {
        symlinkat(target, &self.fd, name)
            .and_then(|()| chown_new_link(&self.fd, name, target, attrs))
            .map_err(|source| RootError::from_errno("link", self.path.join(name), source))
    }

    /// Removes an entry with everything below it. A missing entry is no error.
    pub(crate) fn remove_tree(&self, name: &OsStr) -> Result<()> {
        remove_at(&self.fd, name, &self.path.join(name), REMOVE_TIMEOUT)
    }

    /// Waits until created and removed entries are on disk, but not their content.
    pub(crate) fn sync(&self) -> Result<()> {
        fsync(&self.fd).map_err(|source| self.io_error("sync", OsStr::new(""), source))
    }

    /// Waits until all writes so far to the folder's filesystem are on disk.
    pub(crate) fn sync_filesystem(&self) -> Result<()> {
        let operation = format!("sync {}", self.path.display());
        let _operation = watchdog::begin(operation, SYNC_TIMEOUT);
        syncfs(&self.fd).map_err(|source| self.io_error("sync", OsStr::new(""), source))
    }

    /// Free space of its filesystem.
    pub(crate) fn free_space(&self) -> Result<FreeSpace> {
        let stat = nix::sys::statvfs::fstatvfs(&self.fd)
            .map_err(|source| self.io_error("look at", OsStr::new(""), source))?;
        let block = stat.fragment_size().max(1);
        Ok(FreeSpace {
            bytes: stat.blocks_available().saturating_mul(block),
            files: (stat.files() > 0).then(|| stat.files_available()),
            block,
        })
    }
}

/// Asks the kernel to start writing a file to disk, with the priority of the calling thread and without
/// waiting, so that a later sync has less to do. Where that is not supported, the sync does all the work.
pub(crate) fn start_writeback(file: &File) {
    // SAFETY: a system call on an open descriptor, with numbers that mean the whole file.
    unsafe {
        libc::sync_file_range(file.as_fd().as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE);
    }
}
