//! One pass at a time: a lock that cannot outlive its process, and that nobody else can take.
//!
//! Whoever can open a file can lock it, to read it is enough. So what is locked lies in a folder that
//! only root can enter (in a sandbox: the user who runs trueup), and who runs is told in a note beside it.

mod accounts;
mod holder;
mod locker;
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

pub use accounts::{end_who_locks_accounts, forget_dead_who_locked_accounts, who_locks_accounts};
pub use holder::{Holder, holder};
pub use locker::Locker;

use super::RUN;
use super::root::{Attrs, FileKind, Root, RootError};

/// For a lock that is let go of while is looked whose it is, and for one that is taken for an instant:
/// how often is looked again, and after how long.
const LOOKS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(20);

/// Held for as long as this value lives; the kernel lets go of it when the process ends.
#[derive(Debug)]
pub struct Lock {
    root: Rc<Root>,
    _held: Flock<File>,
    _former: Option<Flock<File>>,
}

impl Lock {
    /// Says who has it, and at what.
    pub fn tell(&self, holder: &Holder) {
        holder.publish(&self.root);
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        holder::withdraw(&self.root);
    }
}

/// What became of an attempt to take the lock.
#[derive(Debug)]
pub enum Attempt {
    Taken(Lock),
    /// Another pass has it: who that is, in words.
    Busy(String),
    /// Something has it that is no pass; `None`: it cannot be seen from here.
    Foreign(Option<Locker>),
}

/// What only root can enter, below [`RUN`].
const PRIVATE: &str = "private";

fn private() -> PathBuf {
    Path::new(RUN).join(PRIVATE)
}

/// What a pass has locked.
pub fn path() -> PathBuf {
    private().join("lock")
}

/// Tries to take the lock of this host for `me`, without waiting.
pub fn try_lock(root: &Rc<Root>, me: &Holder) -> Result<Attempt, RootError> {
    make_private(root)?;
    let mut file = root.open_lock(&path())?;
    let mut looks = 0;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => return beside_former(root, held, me),
            Err((file, _)) => file,
        };
        let locker = locker::find(&file);
        if let Some(pass) = locker.as_ref().and_then(|locker| pass(root, locker)) {
            return Ok(Attempt::Busy(pass));
        }
        looks += 1;
        if looks == LOOKS {
            return Ok(Attempt::Foreign(locker));
        }
        std::thread::sleep(PAUSE);
    }
}

fn make_private(root: &Root) -> Result<(), RootError> {
    root.make_dirs(Path::new(RUN), &Attrs::mode(0o755))?;
    let is_there = || {
        let meta = root.meta(&private())?;
        Ok(meta.is_some_and(|meta| {
            meta.kind == FileKind::Directory && meta.uid == root.user() && meta.mode & 0o077 == 0
        }))
    };
    if is_there()? {
        return Ok(());
    }
    let own = Attrs {
        uid: Some(root.user()),
        ..Attrs::mode(0o700)
    };
    match root.make_dir(&private(), &own) {
        // Another pass made it just then.
        Err(_) if is_there()? => Ok(()),
        made => made,
    }
}

/// Who that is, if it is a pass that has the lock.
fn pass(root: &Root, locker: &Locker) -> Option<String> {
    match holder(root).filter(|holder| holder.pid == locker.pid) {
        Some(holder) => Some(holder.words()),
        None => locker.is_pass_of(root.user()).then(|| locker.words()),
    }
}

/// What passes had locked when everybody could still open it.
fn former_path() -> PathBuf {
    Path::new(RUN).join("lock")
}

/// An upgrade meets passes of the version before it, which know only of [`former_path`], running or
/// waiting: until the next boot they and ours keep each other out by that lock, too, on a file anew that
/// nobody else can have opened. What others have locked there stops nobody.
fn beside_former(root: &Rc<Root>, held: Flock<File>, me: &Holder) -> Result<Attempt, RootError> {
    let former = match former(root)? {
        Ok(former) => former,
        Err(pass) => return Ok(Attempt::Busy(pass)),
    };
    me.publish(root);
    Ok(Attempt::Taken(Lock {
        root: root.clone(),
        _held: held,
        _former: former,
    }))
}

/// The lock of the version before; `Err`: the pass that has it. Only whoever has our own comes here.
fn former(root: &Root) -> Result<Result<Option<Flock<File>>, String>, RootError> {
    let path = former_path();
    let Some(meta) = root.meta(&path)? else {
        return Ok(Ok(None));
    };
    let Some(file) = open_in(root, RUN, "lock") else {
        return Ok(Ok(None));
    };
    // Held until the new one is: a pass that waits may look at any time.
    let _old = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(old) if meta.uid == root.user() && meta.mode & 0o077 == 0 => return Ok(Ok(Some(old))),
        Ok(old) => Some(old),
        Err((old, _)) => match locker::find(&old).and_then(|locker| pass(root, &locker)) {
            Some(pass) => return Ok(Err(pass)),
            None => None,
        },
    };
    root.remove(&path)?;
    let new = root.open_lock(&path)?;
    match Flock::lock(new, FlockArg::LockExclusiveNonblock) {
        Ok(new) => Ok(Ok(Some(new))),
        Err((new, _)) => Ok(locker::find(&new)
            .and_then(|locker| pass(root, &locker))
            .map_or(Ok(None), Err)),
    }
}

/// Opens what is there, to lock it. Waits for nothing that somebody may have put there.
fn open_in(root: &Root, folder: &str, name: &str) -> Option<File> {
    let folder: OwnedFd = root.folder_handle(Path::new(folder)).ok()??;
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    openat(&folder, name, flags, Mode::empty())
        .ok()
        .map(File::from)
}

/// Kept for as long as nobody else is to do the same on this host.
#[derive(Debug)]
pub struct Alone(#[allow(dead_code, reason = "let go of when dropped")] Option<Flock<File>>);

/// Keeps others out who ask for the same: the folder of the lock is locked itself, so that nothing is
/// written. Where there is none yet, or it is not ours to enter, nobody is kept out. `None`: somebody else
/// has it.
pub fn alone(root: &Root) -> Option<Alone> {
    let Some(folder) = open_in(root, RUN, PRIVATE) else {
        return Some(Alone(None));
    };
    match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
        Ok(held) => Some(Alone(Some(held))),
        Err((_, Errno::EWOULDBLOCK)) => None,
        Err(_) => Some(Alone(None)),
    }
}
