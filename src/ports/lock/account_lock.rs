//! Finds the process that locks the account files and so prevents all changes to them.
//!
//! `passwd`, `chfn` and similar tools run as root for the user who calls them, and hold the lock only for
//! moments. But that user may suspend them in between, for as long as he likes.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::locking_process::{self, LockingProcess};
use crate::ports::root::Root;
use crate::ports::services::LiveProcess;

/// The file that `lckpwdf` locks.
const PWD_LOCK: &str = "/etc/.pwd.lock";

/// Lock files that the tools create beside each file, with their process id as content.
const LOCK_FILES: [&str; 6] = [
    "/etc/passwd.lock",
    "/etc/shadow.lock",
    "/etc/group.lock",
    "/etc/gshadow.lock",
    "/etc/subuid.lock",
    "/etc/subgid.lock",
];

/// Longest lock file, in bytes.
const MAX_LOCK_FILE_BYTES: usize = 64;

/// No legitimate process holds the lock for longer.
const MAX_HOLD: Duration = Duration::from_secs(5);

/// Interval at which the lock is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Time for a killed process to end.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// The process that locks the account files now.
pub(crate) fn account_locking_process(root: &Root) -> Option<LockingProcess> {
    let lock = root.meta(Path::new(PWD_LOCK)).ok().flatten();
    lock.and_then(|lock| locking_process::record_lock_process(lock.device, lock.inode))
        .or_else(|| {
            LOCK_FILES
                .iter()
                .find_map(|note| lock_file_process(root, note))
        })
}

fn read_pid(root: &Root, note: &str) -> Option<u32> {
    let text = root.read(Path::new(note), MAX_LOCK_FILE_BYTES).ok()??;
    let text = String::from_utf8(text).ok()?;
    text.trim_matches(['\0', '\n', ' ']).parse().ok()
}

/// Removes lock files of processes that have ended. The tools do so themselves, but take a zombie to be
/// alive. Returns whether there was such a file.
pub(crate) fn remove_stale_account_locks(root: &Root) -> bool {
    let mut found = false;
    for note in LOCK_FILES {
        let is_dead = |pid| i32::try_from(pid).is_ok_and(|pid| LiveProcess::find(pid).is_none());
        if read_pid(root, note).is_some_and(is_dead) {
            found |= root.remove_file(Path::new(note)).is_ok();
        }
    }
    found
}

fn lock_file_process(root: &Root, note: &str) -> Option<LockingProcess> {
    let locker = LockingProcess::from_pid(read_pid(root, note)?);
    // The lock file outlives its process, whose id may have been reused by any user.
    locker.filter(LockingProcess::is_root)
}

/// Kills the process that keeps root from changing accounts, if an ordinary user called it and it is
/// suspended or holds the lock for longer than `MAX_HOLD`. That user loses no work: the tools replace the old
/// file by the new one as their last step. Returns whether it was killed.
pub(crate) fn kill_account_locking_process(root: &Root, locker: &LockingProcess) -> bool {
    let started = Instant::now();
    let mut is_missed = false;
    while locker.is_setuid_root() {
        let now = account_locking_process(root);
        match now.filter(|now| now.is_same_process(locker)) {
            // While others lock and unlock, one reading of the kernel's list can lack an entry.
            None if is_missed => return false,
            None => is_missed = true,
            Some(now) if now.is_stopped || started.elapsed() >= MAX_HOLD => {
                return locker.kill(KILL_TIMEOUT);
            }
            Some(_) => is_missed = false,
        }
        sleep(POLL_INTERVAL);
    }
    false
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::*;
    use crate::ports::root::Attrs;

    /// Spawns a process that locks `/etc/.pwd.lock` as `lckpwdf` does, with the real user `uid` and root as
    /// the effective one.
    fn spawn_locking_process(root: &Root, uid: u32) -> Child {
        let etc = Path::new("/etc");
        root.create_dir_all(etc, &Attrs::mode(0o755)).unwrap();
        root.write_atomic(Path::new(PWD_LOCK), b"", &Attrs::mode(0o600))
            .unwrap();
        let program = "import fcntl, os, sys, time\nfile = open(sys.argv[1], 'w')\nfcntl.lockf(file, fcntl.LOCK_EX)\nos.setresuid(int(sys.argv[2]), 0, 0)\nprint('locked', flush=True)\ntime.sleep(600)";
        let mut command = Command::new("/usr/bin/python3");
        command
            .args(["-c", program])
            .arg(root.machine_path(Path::new(PWD_LOCK)));
        command.arg(uid.to_string()).stdout(Stdio::piped());
        let mut child = command.process_group(0).spawn().unwrap();
        let mut word = [0; 7];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut word).unwrap();
        child
    }

    fn stop_process(child: &Child) {
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGSTOP).unwrap();
        while !LockingProcess::from_pid(child.id()).unwrap().is_stopped {
            sleep(Duration::from_millis(5));
        }
    }

    fn sandbox() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn account_lock_is_attributed_to_the_calling_user() {
        if !nix::unistd::geteuid().is_root() {
            return crate::ports::testing::skip_test("a program with root's rights", "needs root");
        }
        let (_dir, root) = sandbox();
        assert_eq!(account_locking_process(&root), None);
        let mut child = spawn_locking_process(&root, 65534);
        let locker = account_locking_process(&root).unwrap();
        let pid = child.id();
        assert_eq!(
            locker.describe(),
            format!("process {pid} (`python3`, run by nobody)")
        );
        stop_process(&child);
        let words = account_locking_process(&root).unwrap().describe();
        assert!(words.ends_with("run by nobody, stopped)"), "{words}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(account_locking_process(&root), None);
        // The other way to lock them.
        let mut other = Command::new("sleep").arg("600").spawn().unwrap();
        let note = format!("{}\0", other.id());
        root.write_atomic(
            Path::new(LOCK_FILES[1]),
            note.as_bytes(),
            &Attrs::mode(0o600),
        )
        .unwrap();
        assert_eq!(account_locking_process(&root).unwrap().pid, other.id());
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(account_locking_process(&root), None);
    }

    #[test]
    fn account_lock_process_of_a_user_is_killed_but_never_roots() {
        if !nix::unistd::geteuid().is_root() {
            return crate::ports::testing::skip_test("a program with root's rights", "needs root");
        }
        for (uid, stopped, ended) in [(65534, true, true), (65534, false, true), (0, true, false)] {
            let (_dir, root) = sandbox();
            let mut child = spawn_locking_process(&root, uid);
            if stopped {
                stop_process(&child);
            }
            let locker = account_locking_process(&root).unwrap();
            let did = kill_account_locking_process(&root, &locker);
            assert_eq!(did, ended, "{uid} {stopped}");
            let lives = child.try_wait().unwrap().is_none();
            assert_eq!(lives, !ended, "{uid} {stopped}");
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(!kill_account_locking_process(&root, &locker), "it is gone");
        }
    }
}
