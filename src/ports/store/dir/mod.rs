//! A folder as a store: for one machine, demos and tests.
//!
//! An object is a file below the folder; its version is the sha256 of its content. Writers hold a lock on a
//! hidden file, so that they check a condition and write in one step; readers need no lock, because a file is
//! only ever replaced whole. Every path is resolved beneath the folder and through no symbolic link, so a
//! user with write access to the folder cannot lead a reader or writer out of it.
//!
//! Not on a [`Root`](crate::ports::root::Root), which serves the paths of one host: it follows links of root's,
//! which a store has no use for, and sets modes regardless of the umask of the user who writes.

use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, geteuid, unlinkat};

use super::{
    Etag, GetOutcome, MAX_OBJECT_SIZE, Object, ObjectMeta, PutOutcome, Store, StoreError,
    WriteCondition, check_key, check_prefix, check_size, content_etag,
};
use crate::ports::root::{is_leftover, write_in_folder};
use crate::ports::watchdog;

mod walk;

/// The writers' lock file, in the store's folder.
const LOCK_FILE: &str = ".lock";
/// Prefix of a temporary file of earlier versions, in the folder of the object.
const TEMP_PREFIX: &str = ".incoming";
/// How long a writer waits for the lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
const MISSING_HINT: &str = "create or mount the folder, for the user who runs trueup";
const REFUSED_HINT: &str = "`ls -la` of its folder shows what is there and who may use it";
const LOCK_HINT: &str = "`fuser` of that file shows the writer; the next attempt may succeed";

/// A folder as a store.
#[derive(Debug)]
pub(crate) struct DirStore {
    address: String,
    root: PathBuf,
}

impl DirStore {
    /// Sets the folder, which must be an absolute path. Accesses nothing: a missing folder shows as
    /// [`StoreError::Unreachable`] in every operation, and is never created.
    pub(crate) fn open(path: &Path) -> Result<DirStore, StoreError> {
        if !path.is_absolute() {
            return Err(StoreError::Settings(format!(
                "`dir:{}` is not the address of a store: expected an absolute path, as in dir:/srv/store",
                path.display()
            )));
        }
        // Normalized from its parts, without a trailing slash.
        let root: PathBuf = path.components().collect();
        Ok(DirStore {
            address: format!("dir:{}", root.display()),
            root,
        })
    }

    /// Every operation may wait for the folder's filesystem, which may be remote.
    fn begin_operation(&self, key: &str) -> watchdog::Operation {
        watchdog::begin_unbounded(format!("{}: {key}", self.address))
    }

    fn open_root(&self) -> Result<OwnedFd, StoreError> {
        nix::fcntl::open(&self.root, FOLDER_FLAGS, Mode::empty()).map_err(|errno| match errno {
            Errno::ENOENT => self.unreachable("there is no such folder", MISSING_HINT),
            Errno::ENOTDIR => self.unreachable("it is not a folder", MISSING_HINT),
            errno => self.errno_error("", errno),
        })
    }

    fn unreachable(&self, why: &str, hint: &'static str) -> StoreError {
        StoreError::Unreachable {
            store: self.address.clone(),
            why: why.to_owned(),
            hint,
        }
    }

    fn refused(&self, key: &str, why: &str) -> StoreError {
        StoreError::Refused {
            store: self.address.clone(),
            key: key.to_owned(),
            why: why.to_owned(),
            hint: REFUSED_HINT,
        }
    }

    fn errno_error(&self, key: &str, errno: Errno) -> StoreError {
        match errno {
            Errno::ELOOP => self.refused(key, "its path contains a symbolic link"),
            Errno::EXDEV => self.refused(key, "its path leads out of the store"),
            Errno::EIO | Errno::ESTALE | Errno::ETIMEDOUT => {
                self.unreachable(errno.desc(), MISSING_HINT)
            }
            errno => self.refused(key, errno.desc()),
        }
    }

    fn io_error(&self, key: &str, error: &io::Error) -> StoreError {
        match error.raw_os_error() {
            Some(errno) => self.errno_error(key, Errno::from_raw(errno)),
            None => self.refused(key, &error.to_string()),
        }
    }

    /// Waits for the writers' lock; dropping the file releases it.
    fn acquire_lock(&self, root: &OwnedFd, key: &str) -> Result<File, StoreError> {
        let failed = |errno| self.errno_error(key, errno);
        let flags = FILE_FLAGS | OFlag::O_CREAT | OFlag::O_NOFOLLOW;
        // Any user who can open a file can lock it: the mode admits only writers.
        let shared = fstat(root).map_err(failed)?.st_mode & 0o022 != 0;
        let mode = Mode::from_bits_truncate(if shared { 0o644 } else { 0o600 });
        let lock = openat(root, LOCK_FILE, flags, mode).map_err(failed)?;
        let stat = fstat(&lock).map_err(failed)?;
        let lock = File::from(lock);
        if !lock.metadata().is_ok_and(|meta| meta.is_file()) {
            return Err(self.refused(key, &format!("{LOCK_FILE} is not a file: remove it")));
        }
        // Earlier versions created it with a wider mode.
        if !shared && stat.st_mode & 0o077 != 0 && stat.st_uid == geteuid().as_raw() {
            fchmod(&lock, mode).map_err(failed)?;
        }
        let asked = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::Error(error)) => return Err(self.io_error(key, &error)),
                Err(TryLockError::WouldBlock) if asked.elapsed() > LOCK_TIMEOUT => {
                    let seconds = LOCK_TIMEOUT.as_secs();
                    let why = format!("another writer has held {LOCK_FILE} for {seconds} s");
                    return Err(self.unreachable(&why, LOCK_HINT));
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// The file of an object, or `None` if there is no such object.
    fn open_object(
        &self,
        root: &OwnedFd,
        key: &str,
    ) -> Result<Option<(File, FileMeta)>, StoreError> {
        let file = match open_beneath(root, key, FILE_FLAGS) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            Err(errno) => return Err(self.errno_error(key, errno)),
        };
        let meta = file
            .metadata()
            .map_err(|error| self.io_error(key, &error))?;
        Ok(meta.is_file().then(|| (file, FileMeta::of(&meta))))
    }

    fn read_object(&self, root: &OwnedFd, key: &str) -> Result<Option<Object>, StoreError> {
        let Some((file, meta)) = self.open_object(root, key)? else {
            return Ok(None);
        };
        check_size(&self.address, key, meta.size)?;
        let mut body = Vec::with_capacity(meta.size as usize + 1);
        // Bounded a second time: another user's file may grow while it is read.
        file.take(MAX_OBJECT_SIZE as u64 + 1)
            .read_to_end(&mut body)
            .map_err(|error| self.io_error(key, &error))?;
        check_size(&self.address, key, body.len() as u64)?;
        Ok(Some(Object {
            etag: content_etag(&body),
            body,
            modified: meta.modified,
        }))
    }

    fn condition_holds(
        &self,
        root: &OwnedFd,
        key: &str,
        when: WriteCondition<'_>,
    ) -> Result<bool, StoreError> {
        match when {
            WriteCondition::Always => Ok(true),
            WriteCondition::Absent => Ok(self.open_object(root, key)?.is_none()),
            WriteCondition::Matches(etag) => match self.read_object(root, key) {
                Ok(current) => Ok(current.is_some_and(|object| object.etag == *etag)),
                // No caller can know a version of an object that no reader can read.
                Err(StoreError::TooLarge { .. }) => Ok(false),
                Err(error) => Err(error),
            },
        }
    }

    /// The folder of an object's file, created if needed, and the file's name in it.
    fn open_parent<'k>(
        &self,
        root: &OwnedFd,
        key: &'k str,
    ) -> Result<(OwnedFd, &'k str), StoreError> {
        let failed = |errno| match errno {
            Errno::ENOTDIR => self.refused(key, "a part of its path is an object itself"),
            errno => self.errno_error(key, errno),
        };
        let mut folder = open_beneath(root, ".", FOLDER_FLAGS).map_err(failed)?;
        let (parents, name) = split_key(key);
        for part in parents.split('/').filter(|part| !part.is_empty()) {
            folder = match open_beneath(&folder, part, FOLDER_FLAGS) {
                Err(Errno::ENOENT) => {
                    mkdirat(&folder, part, Mode::from_bits_truncate(0o755)).map_err(failed)?;
                    fsync(&folder).map_err(failed)?;
                    open_beneath(&folder, part, FOLDER_FLAGS).map_err(failed)?
                }
                other => other.map_err(failed)?,
            };
        }
        Ok((folder, name))
    }

    fn replace(folder: OwnedFd, name: &str, body: &[u8]) -> Result<(), Errno> {
        remove_stale_temp_files(&folder)?;
        write_in_folder(folder, name, body)
    }

    /// Removes the folders that a deleted object leaves empty, so that their names can become keys, as in a
    /// store that has no folders.
    fn prune_empty_folders(root: &OwnedFd, key: &str) {
        let (mut folder, _) = split_key(key);
        while !folder.is_empty() {
            let (parent, name) = split_key(folder);
            let Ok(above) = open_beneath(
                root,
                if parent.is_empty() { "." } else { parent },
                FOLDER_FLAGS,
            ) else {
                return;
            };
            if unlinkat(&above, name, UnlinkatFlags::RemoveDir).is_err() {
                return;
            }
            folder = parent;
        }
    }
}

impl Store for DirStore {
    fn address(&self) -> &str {
        &self.address
    }

    fn get(&self, key: &str, known: Option<&Etag>) -> Result<GetOutcome, StoreError> {
        check_visible(key)?;
        let _operation = self.begin_operation(key);
        Ok(match self.read_object(&self.open_root()?, key)? {
            None => GetOutcome::Missing,
            Some(object) if known == Some(&object.etag) => GetOutcome::Unchanged,
            Some(object) => GetOutcome::Object(object),
        })
    }

    fn put(
        &self,
        key: &str,
        body: &[u8],
        when: WriteCondition<'_>,
    ) -> Result<PutOutcome, StoreError> {
        check_visible(key)?;
        let _operation = self.begin_operation(key);
        check_size(&self.address, key, body.len() as u64)?;
        let root = self.open_root()?;
        let _turn = self.acquire_lock(&root, key)?;
        if !self.condition_holds(&root, key, when)? {
            return Ok(PutOutcome::Conflict);
        }
        let (folder, name) = self.open_parent(&root, key)?;
        Self::replace(folder, name, body).map_err(|errno| match errno {
            Errno::EISDIR => self.refused(key, "there are objects below it"),
            errno => self.errno_error(key, errno),
        })?;
        Ok(PutOutcome::Written(content_etag(body)))
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        check_prefix(prefix)?;
        let _operation = self.begin_operation(prefix);
        self.list_objects(prefix)
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        check_visible(key)?;
        let _operation = self.begin_operation(key);
        let root = self.open_root()?;
        let _turn = self.acquire_lock(&root, key)?;
        let (parents, name) = split_key(key);
        let folder = match open_beneath(
            &root,
            if parents.is_empty() { "." } else { parents },
            FOLDER_FLAGS,
        ) {
            Ok(folder) => folder,
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
            Err(errno) => return Err(self.errno_error(key, errno)),
        };
        match unlinkat(&folder, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => fsync(&folder).map_err(|errno| self.errno_error(key, errno))?,
            // A folder is not an object.
            Err(Errno::ENOENT | Errno::EISDIR) => return Ok(()),
            Err(errno) => return Err(self.errno_error(key, errno)),
        }
        Self::prune_empty_folders(&root, key);
        Ok(())
    }

    /// The clock of the machine that sets the file times; for a mounted folder, of this machine.
    fn server_time(&self) -> Option<Timestamp> {
        Some(Timestamp::now())
    }
}

const FOLDER_FLAGS: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC);
/// Without O_NONBLOCK, opening a FIFO that another user left in the folder would wait for its writer.
const FILE_FLAGS: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY)
    .union(OFlag::O_CLOEXEC);

/// Metadata of an object's file.
struct FileMeta {
    size: u64,
    modified: Timestamp,
}

impl FileMeta {
    fn of(meta: &std::fs::Metadata) -> FileMeta {
        let nanos = i32::try_from(meta.mtime_nsec()).unwrap_or_default();
        FileMeta {
            size: meta.len(),
            // Only an absurd time is out of the range of `Timestamp`.
            modified: Timestamp::new(meta.mtime(), nanos).unwrap_or(Timestamp::UNIX_EPOCH),
        }
    }
}

/// Opens a path below a folder, through no symbolic link.
fn open_beneath<Fd: AsFd>(folder: Fd, path: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
    watchdog::record_progress();
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    openat2(
        folder.as_fd(),
        path,
        OpenHow::new().flags(flags).resolve(resolve),
    )
}

/// Removes temporary files. Only the holder of the lock writes, so one that is found was left by a writer that
/// died.
fn remove_stale_temp_files(folder: &OwnedFd) -> Result<(), Errno> {
    let mut dir = Dir::from_fd(openat(folder, ".", FOLDER_FLAGS, Mode::empty())?)?;
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name();
        let bytes = name.to_bytes();
        // A key may end like a temporary file, but never starts with a dot.
        let is_ours = bytes.starts_with(b".") && is_leftover(OsStr::from_bytes(bytes));
        if is_ours || bytes.starts_with(TEMP_PREFIX.as_bytes()) {
            let _ = unlinkat(folder, name, UnlinkatFlags::NoRemoveDir);
        }
    }
    Ok(())
}

/// The folder part of a key (empty at the top) and its last part.
fn split_key(key: &str) -> (&str, &str) {
    key.rsplit_once('/').unwrap_or(("", key))
}

/// Names that start with a dot are reserved for the store.
fn check_visible(key: &str) -> Result<(), StoreError> {
    check_key(key)?;
    if key.split('/').any(|part| part.starts_with('.')) {
        return Err(StoreError::Settings(format!(
            "`{key}` is not a key for a folder: parts that start with a dot are reserved for the store itself"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
