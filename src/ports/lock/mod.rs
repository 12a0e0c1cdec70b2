//! Run lock: one pass at a time. The lock ends with its process, and no other user can take it.
//!
//! Every process that can open a file, even only for reading, can lock it. So the lock file is in a folder
//! that only root (in a sandbox: the user who runs trueup) can enter, and a file beside it names the holder.

mod account_lock;
mod holder;
mod locking_process;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, openat};
use nix::sys::stat::Mode;

pub(crate) use account_lock::{
    account_locking_process, kill_account_locking_process, remove_stale_account_locks,
};
pub(crate) use holder::{Holder, read_holder};
pub(crate) use locking_process::LockingProcess;

use super::RUN_DIR;
use super::root::{Attrs, FileKind, Root, RootError};

/// Retries while the lock is busy but no holder is found: it may be released during the search, or taken only
/// for an instant.
const MAX_ATTEMPTS: u32 = 20;
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// The lock, held while this value lives; the kernel releases it when the process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    root: Rc<Root>,
    _flock: Flock<File>,
    _legacy_flock: Option<Flock<File>>,
}

impl Lock {
    /// Publishes the holder and its activity.
    pub(crate) fn update_holder(&self, holder: &Holder) {
        holder.write(&self.root);
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        holder::clear(&self.root);
    }
}

/// Result of an attempt to take the lock.
#[derive(Debug)]
pub(crate) enum LockAttempt {
    Acquired(Lock),
    /// Another pass holds it; described for messages.
    Busy(String),
    /// A process that is no pass holds it; `None`: that process is not visible.
    Foreign(Option<LockingProcess>),
}

/// Folder below [`RUN_DIR`] that only root can enter.
const PRIVATE_DIR: &str = "private";

fn private_dir() -> PathBuf {
    Path::new(RUN_DIR).join(PRIVATE_DIR)
}

/// The lock file of a pass.
pub(crate) fn lock_path() -> PathBuf {
    private_dir().join("lock")
}

/// Tries to take the host's lock for `holder`, without waiting.
pub(crate) fn try_lock(root: &Rc<Root>, holder: &Holder) -> Result<LockAttempt, RootError> {
    create_private_dir(root)?;
    let mut file = root.open_lock_file(&lock_path())?;
    let mut attempts = 0;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => return acquire_with_legacy(root, held, holder),
            Err((file, _)) => file,
        };
        let locker = locking_process::flock_process(&file);
        if let Some(pass) = locker
            .as_ref()
            .and_then(|locker| describe_pass(root, locker))
        {
            return Ok(LockAttempt::Busy(pass));
        }
        attempts += 1;
        if attempts == MAX_ATTEMPTS {
            return Ok(LockAttempt::Foreign(locker));
        }
        std::thread::sleep(RETRY_INTERVAL);
    }
}

fn create_private_dir(root: &Root) -> Result<(), RootError> {
    root.create_dir_all(Path::new(RUN_DIR), &Attrs::mode(0o755))?;
    let is_there = || {
        let meta = root.meta(&private_dir())?;
        Ok(meta.is_some_and(|meta| {
            meta.kind == FileKind::Directory
                && meta.uid == root.current_uid()
                && meta.mode & 0o077 == 0
        }))
    };
    if is_there()? {
        return Ok(());
    }
    let own = Attrs {
        uid: Some(root.current_uid()),
        ..Attrs::mode(0o700)
    };
    match root.create_dir(&private_dir(), &own) {
        // Another pass created it at the same moment.
        Err(_) if is_there()? => Ok(()),
        made => made,
    }
}

/// Describes the lock's holder if it is a pass.
fn describe_pass(root: &Root, locker: &LockingProcess) -> Option<String> {
    match read_holder(root).filter(|holder| holder.pid == locker.pid) {
        Some(holder) => Some(holder.describe()),
        None => locker
            .is_trueup_run_by(root.current_uid())
            .then(|| locker.describe()),
    }
}

/// The lock file of older versions, which every user could open.
fn legacy_lock_path() -> PathBuf {
    Path::new(RUN_DIR).join("lock")
}

/// Also takes the lock at [`legacy_lock_path`]: after an upgrade, passes of the version before, running or
/// waiting, know only that one. Until the next boot it keeps old and new passes apart, on a new file that no
/// other user can have opened. A lock that is held there by something other than a pass is ignored.
fn acquire_with_legacy(
    root: &Rc<Root>,
    held: Flock<File>,
    holder: &Holder,
) -> Result<LockAttempt, RootError> {
    let former = match lock_legacy(root)? {
        Ok(former) => former,
        Err(pass) => return Ok(LockAttempt::Busy(pass)),
    };
    holder.write(root);
    Ok(LockAttempt::Acquired(Lock {
        root: root.clone(),
        _flock: held,
        _legacy_flock: former,
    }))
}

/// Takes the legacy lock; `Err`: the pass that holds it. Requires the current lock.
fn lock_legacy(root: &Root) -> Result<Result<Option<Flock<File>>, String>, RootError> {
    let path = legacy_lock_path();
    let Some(meta) = root.meta(&path)? else {
        return Ok(Ok(None));
    };
    let Some(file) = open_for_lock(root, RUN_DIR, "lock") else {
        return Ok(Ok(None));
    };
    // Held until the new file is locked: a waiting pass may check at any time.
    let _old = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(old) if meta.uid == root.current_uid() && meta.mode & 0o077 == 0 => {
            return Ok(Ok(Some(old)));
        }
        Ok(old) => Some(old),
        Err((old, _)) => match locking_process::flock_process(&old)
            .and_then(|locker| describe_pass(root, &locker))
        {
            Some(pass) => return Ok(Err(pass)),
            None => None,
        },
    };
    root.remove_file(&path)?;
    let new = root.open_lock_file(&path)?;
    match Flock::lock(new, FlockArg::LockExclusiveNonblock) {
        Ok(new) => Ok(Ok(Some(new))),
        Err((new, _)) => Ok(locking_process::flock_process(&new)
            .and_then(|locker| describe_pass(root, &locker))
            .map_or(Ok(None), Err)),
    }
}

/// Opens an existing file to lock it. Never blocks, whatever another user may have put there.
fn open_for_lock(root: &Root, folder: &str, name: &str) -> Option<File> {
    let folder: OwnedFd = root.open_folder_fd(Path::new(folder)).ok()??;
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    openat(&folder, name, flags, Mode::empty())
        .ok()
        .map(File::from)
}

/// Held while this process reads and changes which apps are in maintenance.
#[derive(Debug)]
pub(crate) struct MaintenanceLock(
    #[allow(dead_code, reason = "let go of when dropped")] Flock<File>,
);

/// Keeps apart those who change which apps are in maintenance. A lock of its own, because an operator must not wait
/// for a running pass. Waits a moment for another process; `None`: that one does not let go of it.
pub(crate) fn lock_maintenance(root: &Root) -> Result<Option<MaintenanceLock>, RootError> {
    create_private_dir(root)?;
    let mut file = root.open_lock_file(&private_dir().join("maintenance"))?;
    for _ in 0..MAX_ATTEMPTS {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => return Ok(Some(MaintenanceLock(held))),
            Err((file, _)) => file,
        };
        std::thread::sleep(RETRY_INTERVAL);
    }
    Ok(None)
}

/// Held while no second `trueup doctor` may run on this host.
#[derive(Debug)]
pub(crate) struct DoctorLock(
    #[allow(dead_code, reason = "let go of when dropped")] Option<Flock<File>>,
);

/// Keeps out other runs of `trueup doctor` by locking the folder of the lock, so that nothing is written.
/// Excludes nobody if the folder does not exist or this user may not enter it. `None`: another run holds it.
pub(crate) fn try_lock_doctor(root: &Root) -> Option<DoctorLock> {
    let Some(folder) = open_for_lock(root, RUN_DIR, PRIVATE_DIR) else {
        return Some(DoctorLock(None));
    };
    match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
        Ok(held) => Some(DoctorLock(Some(held))),
        Err((_, Errno::EWOULDBLOCK)) => None,
        Err(_) => Some(DoctorLock(None)),
    }
}
