//! Who keeps the files of accounts locked, so that none can be changed.
//!
//! `passwd`, `chfn` and their kin run as root for whoever calls them, take the lock and let it go within
//! moments. But who called them may stop them in between, for as long as he likes.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::locker::{self, Locker};
use crate::ports::root::Root;
use crate::ports::services::Living;

/// What `lckpwdf` locks.
const LOCK: &str = "/etc/.pwd.lock";

/// What the tools put beside each file, with the id of the process in it.
const NOTES: [&str; 6] = [
    "/etc/passwd.lock",
    "/etc/shadow.lock",
    "/etc/group.lock",
    "/etc/gshadow.lock",
    "/etc/subuid.lock",
    "/etc/subgid.lock",
];

/// No note is longer, in bytes.
const MAX_NOTE: usize = 64;

/// Nobody needs the lock for longer.
const LONG: Duration = Duration::from_secs(5);

/// How often is looked meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// How long what was killed may take to be gone.
const GONE: Duration = Duration::from_secs(10);

/// Who has the accounts locked at this moment.
pub fn who_locks_accounts(root: &Root) -> Option<Locker> {
    let lock = root.meta(Path::new(LOCK)).ok().flatten();
    lock.and_then(|lock| locker::of_record(lock.device, lock.inode))
        .or_else(|| NOTES.iter().find_map(|note| noted(root, note)))
}

fn pid_in(root: &Root, note: &str) -> Option<u32> {
    let text = root.read(Path::new(note), MAX_NOTE).ok()??;
    let text = String::from_utf8(text).ok()?;
    text.trim_matches(['\0', '\n', ' ']).parse().ok()
}

/// Takes away what the dead have left. The tools do so themselves, but take one for whom nobody waited
/// to be alive. Returns whether there was such a note.
pub fn forget_dead_who_locked_accounts(root: &Root) -> bool {
    let mut found = false;
    for note in NOTES {
        let is_dead = |pid| i32::try_from(pid).is_ok_and(|pid| Living::find(pid).is_none());
        if pid_in(root, note).is_some_and(is_dead) {
            found |= root.remove(Path::new(note)).is_ok();
        }
    }
    found
}

fn noted(root: &Root, note: &str) -> Option<Locker> {
    let locker = Locker::of(pid_in(root, note)?);
    // The note outlives who left it, and his id may be anybody's by now.
    locker.filter(Locker::is_privileged)
}

/// Ends who keeps root from changing accounts, if an ordinary user called it and it is stopped, or does
/// not let go in time. That user can have done nothing with it that would be lost: the tools put a new
/// file in the place of the old one as the last thing that they do. Returns whether it did.
pub fn end_who_locks_accounts(root: &Root, locker: &Locker) -> bool {
    let begun = Instant::now();
    while locker.is_lent_to_others() {
        let now = who_locks_accounts(root);
        match now.filter(|now| now.is_same(locker)) {
            None => return false,
            Some(now) if now.is_stopped || begun.elapsed() >= LONG => return locker.kill(GONE),
            Some(_) => sleep(LOOK),
        }
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

    /// A process that locks `/etc/.pwd.lock` as `lckpwdf` does, with the real user `uid` and the effective
    /// one root.
    fn locks(root: &Root, uid: u32) -> Child {
        let etc = Path::new("/etc");
        root.make_dirs(etc, &Attrs::mode(0o755)).unwrap();
        root.replace(Path::new(LOCK), b"", &Attrs::mode(0o600))
            .unwrap();
        let program = "import fcntl, os, sys, time\nfile = open(sys.argv[1], 'w')\nfcntl.lockf(file, fcntl.LOCK_EX)\nos.setresuid(int(sys.argv[2]), 0, 0)\nprint('locked', flush=True)\ntime.sleep(600)";
        let mut command = Command::new("/usr/bin/python3");
        command
            .args(["-c", program])
            .arg(root.outside(Path::new(LOCK)));
        command.arg(uid.to_string()).stdout(Stdio::piped());
        let mut child = command.process_group(0).spawn().unwrap();
        let mut word = [0; 7];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut word).unwrap();
        child
    }

    fn stop(child: &Child) {
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGSTOP).unwrap();
        while !Locker::of(child.id()).unwrap().is_stopped {
            sleep(Duration::from_millis(5));
        }
    }

    fn host() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn account_lock_is_attributed_to_the_calling_user() {
        if !nix::unistd::geteuid().is_root() {
            return crate::ports::testing::skipped("a program with root's rights", "needs root");
        }
        let (_dir, root) = host();
        assert_eq!(who_locks_accounts(&root), None);
        let mut child = locks(&root, 65534);
        let locker = who_locks_accounts(&root).unwrap();
        let pid = child.id();
        assert_eq!(
            locker.words(),
            format!("process {pid} (`python3`, run by nobody)")
        );
        stop(&child);
        let words = who_locks_accounts(&root).unwrap().words();
        assert!(words.ends_with("run by nobody, stopped)"), "{words}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(who_locks_accounts(&root), None);
        // The other way to lock them.
        let mut other = Command::new("sleep").arg("600").spawn().unwrap();
        let note = format!("{}\0", other.id());
        root.replace(Path::new(NOTES[1]), note.as_bytes(), &Attrs::mode(0o600))
            .unwrap();
        assert_eq!(who_locks_accounts(&root).unwrap().pid, other.id());
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(who_locks_accounts(&root), None);
    }

    #[test]
    fn account_lock_process_of_a_user_is_killed_but_never_roots() {
        if !nix::unistd::geteuid().is_root() {
            return crate::ports::testing::skipped("a program with root's rights", "needs root");
        }
        for (uid, stopped, ended) in [(65534, true, true), (65534, false, true), (0, true, false)] {
            let (_dir, root) = host();
            let mut child = locks(&root, uid);
            if stopped {
                stop(&child);
            }
            let locker = who_locks_accounts(&root).unwrap();
            let did = end_who_locks_accounts(&root, &locker);
            assert_eq!(did, ended, "{uid} {stopped}");
            let lives = child.try_wait().unwrap().is_none();
            assert_eq!(lives, !ended, "{uid} {stopped}");
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(!end_who_locks_accounts(&root, &locker), "it is gone");
        }
    }
}
