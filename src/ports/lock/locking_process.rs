//! Finds the process that holds a file lock, from `/proc/locks`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::ports::processes;
use crate::ports::services::LiveProcess;

/// The name of trueup's program.
const PROGRAM: &str = "trueup";

/// A process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LockingProcess {
    pub pid: u32,
    /// The name that the process gives itself.
    pub program: String,
    /// The user who called it, also if it runs with another user's rights.
    pub user: String,
    /// It is suspended until it gets SIGCONT.
    pub is_stopped: bool,
    real_uid: u32,
    effective_uid: u32,
    is_trueup: bool,
    /// Detects that its id was reused.
    start_time: u64,
}

impl LockingProcess {
    /// Whether it is trueup itself, run by `user`: the name of another user's program proves nothing.
    pub(super) fn is_trueup_run_by(&self, user: u32) -> bool {
        self.is_trueup && self.effective_uid == user
    }

    /// ``process 4242 (`sleep`, run by root)``.
    pub(crate) fn describe(&self) -> String {
        let LockingProcess {
            pid, program, user, ..
        } = self;
        let stopped = if self.is_stopped { ", stopped" } else { "" };
        format!("process {pid} (`{program}`, run by {user}{stopped})")
    }

    /// Whether it runs with root's rights.
    pub(super) fn is_root(&self) -> bool {
        self.effective_uid == 0
    }

    /// Whether another user called it and it runs with root's rights, like `passwd`.
    pub(super) fn is_setuid_root(&self) -> bool {
        self.is_root() && self.real_uid != 0
    }

    pub(super) fn is_same_process(&self, other: &LockingProcess) -> bool {
        (self.pid, self.start_time) == (other.pid, other.start_time)
    }

    /// Kills it, and waits until it has ended.
    pub(super) fn kill(&self, timeout: Duration) -> bool {
        // SAFETY: takes two numbers; the result is checked before it is used as a descriptor.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, self.pid, 0) };
        let Some(fd) = i32::try_from(fd).ok().filter(|fd| *fd >= 0) else {
            return false;
        };
        // SAFETY: the kernel just returned it, and nothing else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // From here on the descriptor refers to this process or to none, even if its id is reused.
        if !LockingProcess::from_pid(self.pid)
            .is_some_and(|now| now.is_same_process(self) && now.real_uid == self.real_uid)
        {
            return false;
        }
        let no_info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is open, and the signal information may be null.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                fd.as_raw_fd(),
                libc::SIGKILL,
                no_info,
                0,
            )
        };
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        let mut ended = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        sent == 0 && poll(&mut ended, timeout).is_ok_and(|ended| ended > 0)
    }

    pub(super) fn from_pid(pid: u32) -> Option<LockingProcess> {
        let start = LiveProcess::find(i32::try_from(pid).ok()?)?.start_time;
        let folder = proc_dir(pid);
        let status = fs::read_to_string(folder.join("status")).ok()?;
        // `Uid: real effective saved filesystem`
        let line = |name| status.lines().find_map(|line| line.strip_prefix(name));
        let mut uids = line("Uid:")?.split_whitespace();
        let caller = uids.next()?.parse().ok()?;
        let uid = uids.next()?.parse().ok()?;
        let program = processes::program_name(pid)?;
        Some(LockingProcess {
            pid,
            is_trueup: program == PROGRAM || runs_trueup(&folder),
            user: processes::user_name(caller),
            is_stopped: line("State:").is_some_and(|state| state.trim().starts_with(['T', 't'])),
            program,
            real_uid: caller,
            effective_uid: uid,
            start_time: start,
        })
    }
}

/// Also recognizes a program that was replaced while it runs, as an upgrade does.
fn runs_trueup(folder: &Path) -> bool {
    let program = fs::read_link(folder.join("exe")).unwrap_or_default();
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(" (deleted)").unwrap_or(&name) == PROGRAM
}

/// The living process that holds a lock on this file, as far as visible. If the one that took the lock has
/// ended, its child may have inherited the lock: then returns that child.
pub(super) fn flock_process(file: &File) -> Option<LockingProcess> {
    let meta = file.metadata().ok()?;
    let lockers = locking_pids("FLOCK", meta.ino());
    // Inode numbers are unique only within a filesystem.
    let mut holders = lockers
        .iter()
        .filter(|pid| has_open(**pid, &meta) != Some(false))
        .filter_map(|pid| LockingProcess::from_pid(*pid));
    holders.next().or_else(|| {
        let pid = processes::pids().find(|pid| has_open(*pid, &meta) == Some(true))?;
        LockingProcess::from_pid(pid)
    })
}

/// The living process that holds an `fcntl` lock on a part of this file or all of it.
pub(super) fn record_lock_process(device: u64, inode: u64) -> Option<LockingProcess> {
    let lockers = locking_pids("POSIX", inode);
    let opens = |pid: &&u32| {
        let files = fs::read_dir(proc_dir(**pid).join("fd"))
            .into_iter()
            .flatten();
        let mut opened = files
            .flatten()
            .filter_map(|file| fs::metadata(file.path()).ok());
        opened.any(|file| (file.dev(), file.ino()) == (device, inode))
    };
    lockers
        .iter()
        .filter(opens)
        .find_map(|pid| LockingProcess::from_pid(*pid))
}

/// The processes that hold a lock of this type on a file with this inode number.
fn locking_pids(lock_type: &str, inode: u64) -> BTreeSet<u32> {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    // `1: FLOCK  ADVISORY  WRITE 4242 00:2a:1234 0 EOF`; a waiting one has `->` before its type.
    let locker = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, kind, _, _, pid, file_id, ..] = words.as_slice() else {
            return None;
        };
        let number: u64 = file_id.rsplit(':').next()?.parse().ok()?;
        (*kind == lock_type && number == inode)
            .then(|| pid.parse().ok())
            .flatten()
    };
    locks.lines().filter_map(locker).collect()
}

/// Whether it has this file open, apart from trueup's own descriptor; `None`: not visible to this user.
fn has_open(pid: u32, meta: &fs::Metadata) -> Option<bool> {
    let files = fs::read_dir(proc_dir(pid).join("fd")).ok()?;
    let opened = files
        .flatten()
        .filter_map(|file| fs::metadata(file.path()).ok());
    let opened = opened.filter(|other| (other.dev(), other.ino()) == (meta.dev(), meta.ino()));
    Some(opened.count() > usize::from(pid == std::process::id()))
}

fn proc_dir(pid: u32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}
