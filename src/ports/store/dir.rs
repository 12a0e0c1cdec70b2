//! A folder as a store: for one machine, demos and tests.
//!
//! An object is a file below the folder, its version the sha256 of its content. Writers take turns
//! by a lock on a hidden file, so a condition is checked and its write made as one step; readers
//! need no lock, because a file is only ever replaced whole. Every path is resolved beneath the
//! folder and through no symbolic link, so whoever may write in it cannot lead a reader or writer
//! out of it.

use std::fs::{File, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, renameat};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, geteuid, unlinkat};

use super::{
    Etag, Fetched, Listed, MAX_OBJECT, Object, Put, Store, StoreError, When, check_key,
    check_prefix, check_size, content_etag,
};
use crate::ports::watchdog;

mod walk;

/// The writers' lock, in the store's folder.
const LOCK: &str = ".lock";
/// How the name of a body on its way in begins, in the folder where it will be. Only the holder of the
/// lock writes, so one that is found there was left by a writer that died. The rest of the name nobody
/// can know: whoever may write in the folder could occupy it.
const INCOMING: &str = ".incoming";
/// How long a writer waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// A folder as a store.
#[derive(Debug)]
pub struct DirStore {
    address: String,
    root: PathBuf,
}

impl DirStore {
    /// Names the folder, which must be an absolute path. Touches nothing: a folder that is not
    /// there shows as [`StoreError::Unreachable`] in every operation, and is never created.
    pub fn open(path: &Path) -> Result<DirStore, StoreError> {
        if !path.is_absolute() {
            return Err(StoreError::Settings(format!(
                "`dir:{}` is not the address of a store: expected an absolute path, as in dir:/srv/store",
                path.display()
            )));
        }
        // Put together again from its parts, without a trailing slash.
        let root: PathBuf = path.components().collect();
        Ok(DirStore {
            address: format!("dir:{}", root.display()),
            root,
        })
    }

    /// Everything here waits for the folder's filesystem, which may be somebody's server.
    fn at(&self, key: &str) -> watchdog::Operation {
        watchdog::at(format!("{}: {key}", self.address))
    }

    fn folder(&self) -> Result<OwnedFd, StoreError> {
        nix::fcntl::open(&self.root, FOLDER, Mode::empty()).map_err(|errno| match errno {
            Errno::ENOENT => self.unreachable("there is no such folder: create it or mount it"),
            Errno::ENOTDIR => self.unreachable("it is not a folder"),
            errno => self.failed("", errno),
        })
    }

    fn unreachable(&self, why: &str) -> StoreError {
        StoreError::Unreachable {
            store: self.address.clone(),
            why: why.to_owned(),
        }
    }

    fn refused(&self, key: &str, why: &str) -> StoreError {
        StoreError::Refused {
            store: self.address.clone(),
            key: key.to_owned(),
            why: why.to_owned(),
        }
    }

    fn failed(&self, key: &str, errno: Errno) -> StoreError {
        match errno {
            Errno::ELOOP => self.refused(key, "a symbolic link is in its path"),
            Errno::EXDEV => self.refused(key, "its path leads out of the store"),
            Errno::EIO | Errno::ESTALE | Errno::ETIMEDOUT => self.unreachable(errno.desc()),
            errno => self.refused(key, errno.desc()),
        }
    }

    fn failed_io(&self, key: &str, error: &io::Error) -> StoreError {
        match error.raw_os_error() {
            Some(errno) => self.failed(key, Errno::from_raw(errno)),
            None => self.refused(key, &error.to_string()),
        }
    }

    /// Waits for this writer's turn; the turn ends when the file is dropped.
    fn turn(&self, root: &OwnedFd, key: &str) -> Result<File, StoreError> {
        let failed = |errno| self.failed(key, errno);
        let flags = FILE | OFlag::O_CREAT | OFlag::O_NOFOLLOW;
        // Whoever can open a file can lock it: nobody but writers.
        let shared = fstat(root).map_err(failed)?.st_mode & 0o022 != 0;
        let mode = Mode::from_bits_truncate(if shared { 0o644 } else { 0o600 });
        let lock = openat(root, LOCK, flags, mode).map_err(failed)?;
        let stat = fstat(&lock).map_err(failed)?;
        let lock = File::from(lock);
        if !lock.metadata().is_ok_and(|meta| meta.is_file()) {
            return Err(self.refused(key, &format!("{LOCK} is not a file: remove it")));
        }
        // As versions before this one made it.
        if !shared && stat.st_mode & 0o077 != 0 && stat.st_uid == geteuid().as_raw() {
            fchmod(&lock, mode).map_err(failed)?;
        }
        let asked = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::Error(error)) => return Err(self.failed_io(key, &error)),
                Err(TryLockError::WouldBlock) if asked.elapsed() > PATIENCE => {
                    return Err(self.unreachable(&format!(
                        "another writer has held {LOCK} for {} s",
                        PATIENCE.as_secs()
                    )));
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// The file of an object, or None if there is no such object.
    fn file(&self, root: &OwnedFd, key: &str) -> Result<Option<(File, Meta)>, StoreError> {
        let file = match beneath(root, key, FILE) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            Err(errno) => return Err(self.failed(key, errno)),
        };
        let meta = file
            .metadata()
            .map_err(|error| self.failed_io(key, &error))?;
        Ok(meta.is_file().then(|| (file, Meta::of(&meta))))
    }

    fn read(&self, root: &OwnedFd, key: &str) -> Result<Option<Object>, StoreError> {
        let Some((file, meta)) = self.file(root, key)? else {
            return Ok(None);
        };
        check_size(&self.address, key, meta.size)?;
        let mut body = Vec::with_capacity(meta.size as usize + 1);
        // Bounded a second time: a file that is not ours may grow while it is read.
        file.take(MAX_OBJECT as u64 + 1)
            .read_to_end(&mut body)
            .map_err(|error| self.failed_io(key, &error))?;
        check_size(&self.address, key, body.len() as u64)?;
        Ok(Some(Object {
            etag: content_etag(&body),
            body,
            modified: meta.modified,
        }))
    }

    fn holds(&self, root: &OwnedFd, key: &str, when: When<'_>) -> Result<bool, StoreError> {
        match when {
            When::Always => Ok(true),
            When::Absent => Ok(self.file(root, key)?.is_none()),
            When::Matches(etag) => match self.read(root, key) {
                Ok(current) => Ok(current.is_some_and(|object| object.etag == *etag)),
                // No version of an object that nobody can read is known to anyone.
                Err(StoreError::TooLarge { .. }) => Ok(false),
                Err(error) => Err(error),
            },
        }
    }

    /// The folder that an object's file goes to, made if need be, and the file's name in it.
    fn place<'k>(&self, root: &OwnedFd, key: &'k str) -> Result<(OwnedFd, &'k str), StoreError> {
        let failed = |errno| match errno {
            Errno::ENOTDIR => self.refused(key, "a part of its path is an object itself"),
            errno => self.failed(key, errno),
        };
        let mut folder = beneath(root, ".", FOLDER).map_err(failed)?;
        let (parents, name) = split(key);
        for part in parents.split('/').filter(|part| !part.is_empty()) {
            folder = match beneath(&folder, part, FOLDER) {
                Err(Errno::ENOENT) => {
                    mkdirat(&folder, part, Mode::from_bits_truncate(0o755)).map_err(failed)?;
                    fsync(&folder).map_err(failed)?;
                    beneath(&folder, part, FOLDER).map_err(failed)?
                }
                other => other.map_err(failed)?,
            };
        }
        Ok((folder, name))
    }

    fn replace(&self, folder: &OwnedFd, key: &str, name: &str, body: &[u8]) -> Result<(), Errno> {
        clear_incoming(folder)?;
        let incoming = format!(
            "{INCOMING}-{:016x}",
            RandomState::new().build_hasher().finish()
        );
        let incoming = incoming.as_str();
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(0o644);
        let mut file = File::from(openat(folder, incoming, flags, mode)?);
        let written = file.write_all(body).and_then(|()| file.sync_all());
        let errno = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or_default());
        let renamed = written
            .map_err(errno)
            .and_then(|()| renameat(folder, incoming, folder, name));
        if renamed.is_err() {
            tracing::debug!(
                store = self.address,
                key,
                "dropping a body that did not get in"
            );
            let _ = unlinkat(folder, incoming, UnlinkatFlags::NoRemoveDir);
        }
        renamed.and_then(|()| fsync(folder))
    }

    /// Removes the folders that a deleted object leaves empty, so that their names are free to
    /// become keys, as in a store that has no folders.
    fn prune(root: &OwnedFd, key: &str) {
        let (mut folder, _) = split(key);
        while !folder.is_empty() {
            let (parent, name) = split(folder);
            let Ok(above) = beneath(root, if parent.is_empty() { "." } else { parent }, FOLDER)
            else {
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

    fn get(&self, key: &str, known: Option<&Etag>) -> Result<Fetched, StoreError> {
        check_visible(key)?;
        let _operation = self.at(key);
        Ok(match self.read(&self.folder()?, key)? {
            None => Fetched::Missing,
            Some(object) if known == Some(&object.etag) => Fetched::Unchanged,
            Some(object) => Fetched::Object(object),
        })
    }

    fn put(&self, key: &str, body: &[u8], when: When<'_>) -> Result<Put, StoreError> {
        check_visible(key)?;
        let _operation = self.at(key);
        check_size(&self.address, key, body.len() as u64)?;
        let root = self.folder()?;
        let _turn = self.turn(&root, key)?;
        if !self.holds(&root, key, when)? {
            return Ok(Put::Conflict);
        }
        let (folder, name) = self.place(&root, key)?;
        self.replace(&folder, key, name, body)
            .map_err(|errno| match errno {
                Errno::EISDIR => self.refused(key, "there are objects below it"),
                errno => self.failed(key, errno),
            })?;
        Ok(Put::Written(content_etag(body)))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        check_prefix(prefix)?;
        let _operation = self.at(prefix);
        self.walk(prefix)
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        check_visible(key)?;
        let _operation = self.at(key);
        let root = self.folder()?;
        let _turn = self.turn(&root, key)?;
        let (parents, name) = split(key);
        let folder = match beneath(
            &root,
            if parents.is_empty() { "." } else { parents },
            FOLDER,
        ) {
            Ok(folder) => folder,
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
            Err(errno) => return Err(self.failed(key, errno)),
        };
        match unlinkat(&folder, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => fsync(&folder).map_err(|errno| self.failed(key, errno))?,
            // A folder is no object.
            Err(Errno::ENOENT | Errno::EISDIR) => return Ok(()),
            Err(errno) => return Err(self.failed(key, errno)),
        }
        Self::prune(&root, key);
        Ok(())
    }

    /// The clock of the machine that stamps the files; of a mounted folder, of its user's.
    fn now(&self) -> Option<Timestamp> {
        Some(Timestamp::now())
    }
}

const FOLDER: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC);
/// Without O_NONBLOCK, opening a FIFO that someone left in the folder would wait for its writer.
const FILE: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY)
    .union(OFlag::O_CLOEXEC);

/// What a store wants to know of a file.
struct Meta {
    size: u64,
    modified: Timestamp,
}

impl Meta {
    fn of(meta: &std::fs::Metadata) -> Meta {
        let nanos = i32::try_from(meta.mtime_nsec()).unwrap_or_default();
        Meta {
            size: meta.len(),
            // Out of a Timestamp's range only for a time that nobody meant.
            modified: Timestamp::new(meta.mtime(), nanos).unwrap_or(Timestamp::UNIX_EPOCH),
        }
    }
}

/// Opens a path below a folder, through no symbolic link.
fn beneath<Fd: AsFd>(folder: Fd, path: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
    watchdog::progress();
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    openat2(
        folder.as_fd(),
        path,
        OpenHow::new().flags(flags).resolve(resolve),
    )
}

/// Removes what writers that died left.
fn clear_incoming(folder: &OwnedFd) -> Result<(), Errno> {
    let mut dir = Dir::from_fd(openat(folder, ".", FOLDER, Mode::empty())?)?;
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_bytes().starts_with(INCOMING.as_bytes()) {
            let _ = unlinkat(folder, name, UnlinkatFlags::NoRemoveDir);
        }
    }
    Ok(())
}

/// The folder part of a key (empty at the top) and its last part.
fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('/').unwrap_or(("", key))
}

/// Names that start with a dot are the store's own.
fn check_visible(key: &str) -> Result<(), StoreError> {
    check_key(key)?;
    if key.split('/').any(|part| part.starts_with('.')) {
        return Err(StoreError::Settings(format!(
            "`{key}` is not a key for a folder: parts that start with a dot are kept for the store itself"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
