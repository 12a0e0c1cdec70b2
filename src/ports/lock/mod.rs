//! One pass at a time: a lock that cannot outlive its process, and that nobody else can take.
//!
//! Whoever can open a file can lock it, to read it is enough. So what is locked lies in a folder that
//! only root can enter (in a sandbox: the user who runs trueup), and who runs is told in a note beside it.

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

pub use account_lock::{
    account_locking_process, kill_account_locking_process, remove_stale_account_locks,
};
pub use holder::{Holder, read_holder};
pub use locking_process::LockingProcess;

use super::RUN_DIR;
use super::root::{Attrs, FileKind, Root, RootError};

/// For a lock that is let go of while is looked whose it is, and for one that is taken for an instant:
/// how often is looked again, and after how long.
const MAX_ATTEMPTS: u32 = 20;
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Held for as long as this value lives; the kernel lets go of it when the process ends.
#[derive(Debug)]
pub struct Lock {
    root: Rc<Root>,
    _flock: Flock<File>,
    _legacy_flock: Option<Flock<File>>,
}

impl Lock {
    /// Says who has it, and at what.
    pub fn update_holder(&self, holder: &Holder) {
        holder.write(&self.root);
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        holder::clear(&self.root);
    }
}

/// What became of an attempt to take the lock.
#[derive(Debug)]
pub enum LockAttempt {
    Acquired(Lock),
    /// Another pass has it: who that is, in words.
    Busy(String),
    /// Something has it that is no pass; `None`: it cannot be seen from here.
    Foreign(Option<LockingProcess>),
}

/// What only root can enter, below [`RUN_DIR`].
const PRIVATE_DIR: &str = "private";

fn private_dir() -> PathBuf {
    Path::new(RUN_DIR).join(PRIVATE_DIR)
}

/// What a pass has locked.
pub fn lock_path() -> PathBuf {
    private_dir().join("lock")
}

/// Tries to take the lock of this host for `me`, without waiting.
pub fn try_lock(root: &Rc<Root>, holder: &Holder) -> Result<LockAttempt, RootError> {
    create_private_dir(root)?;
    let mut file = root.open_lock_file(&lock_path())?;
    let mut looks = 0;
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
        looks += 1;
        if looks == MAX_ATTEMPTS {
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
        // Another pass made it just then.
        Err(_) if is_there()? => Ok(()),
        made => made,
    }
}

/// Who that is, if it is a pass that has the lock.
fn describe_pass(root: &Root, locker: &LockingProcess) -> Option<String> {
    match read_holder(root).filter(|holder| holder.pid == locker.pid) {
        Some(holder) => Some(holder.describe()),
        None => locker
            .is_trueup_run_by(root.current_uid())
            .then(|| locker.describe()),
    }
}

/// What passes had locked when everybody could still open it.
fn legacy_lock_path() -> PathBuf {
    Path::new(RUN_DIR).join("lock")
}

/// An upgrade meets passes of the version before it, which know only of [`legacy_lock_path`], running or
/// waiting: until the next boot they and ours keep each other out by that lock, too, on a file anew that
/// nobody else can have opened. What others have locked there stops nobody.
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

/// The lock of the version before; `Err`: the pass that has it. Only whoever has our own comes here.
fn lock_legacy(root: &Root) -> Result<Result<Option<Flock<File>>, String>, RootError> {
    let path = legacy_lock_path();
    let Some(meta) = root.meta(&path)? else {
        return Ok(Ok(None));
    };
    let Some(file) = open_for_lock(root, RUN_DIR, "lock") else {
        return Ok(Ok(None));
    };
    // Held until the new one is: a pass that waits may look at any time.
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

/// Opens what is there, to lock it. Waits for nothing that somebody may have put there.
fn open_for_lock(root: &Root, folder: &str, name: &str) -> Option<File> {
    let folder: OwnedFd = root.open_folder_fd(Path::new(folder)).ok()??;
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    openat(&folder, name, flags, Mode::empty())
        .ok()
        .map(File::from)
}

/// Kept for as long as nobody else is to do the same on this host.
#[derive(Debug)]
pub struct DoctorLock(#[allow(dead_code, reason = "let go of when dropped")] Option<Flock<File>>);

/// Keeps others out who ask for the same: the folder of the lock is locked itself, so that nothing is
/// written. Where there is none yet, or it is not ours to enter, nobody is kept out. `None`: somebody else
/// has it.
pub fn try_lock_doctor(root: &Root) -> Option<DoctorLock> {
    let Some(folder) = open_for_lock(root, RUN_DIR, PRIVATE_DIR) else {
        return Some(DoctorLock(None));
    };
    match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
        Ok(held) => Some(DoctorLock(Some(held))),
        Err((_, Errno::EWOULDBLOCK)) => None,
        Err(_) => Some(DoctorLock(None)),
    }
}
