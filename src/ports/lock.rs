//! One pass at a time: a lock that cannot outlive its process, with a word about who has it.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::RUN;
use super::root::{Attrs, Root, RootError};

/// How wide the word about the holder is, in bytes. Always the same, so that it is written over and
/// nothing has to be cut off.
const WORD: usize = 512;

/// No more of what somebody is called or does is kept, in characters.
const SHOWN: usize = 80;

/// Who has the lock: left in it for people who ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub pid: u32,
    /// The person, or the unit of systemd, that started it.
    pub by: String,
    /// What was started, such as `trueup converge`.
    pub command: String,
    pub since: Timestamp,
    /// What it is at right now, once it has begun to change something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doing: Option<String>,
}

impl Holder {
    /// This process.
    pub fn me(by: String, command: String, since: Timestamp) -> Holder {
        Holder {
            pid: std::process::id(),
            by,
            command,
            since,
            doing: None,
        }
    }

    /// `process 4242 (trueup converge by ana, since 04:43:01 UTC): deploy code`.
    pub fn words(&self) -> String {
        let since = self.since.strftime("%T UTC");
        let Holder {
            pid, by, command, ..
        } = self;
        let doing = self.doing.as_ref();
        let doing = doing.map_or(String::new(), |doing| format!(": {doing}"));
        format!("process {pid} ({command} by {by}, since {since}){doing}")
    }

    fn bounded(&self) -> Holder {
        let short = |text: &String| text.chars().take(SHOWN).collect();
        Holder {
            by: short(&self.by),
            command: short(&self.command),
            doing: self.doing.as_ref().map(short),
            ..*self
        }
    }
}

/// Held for as long as this value lives; the kernel lets go of it when the process ends.
#[derive(Debug)]
pub struct Lock(Flock<File>);

impl Lock {
    /// Says who has it, and at what. A failure to say so is no reason not to go on.
    pub fn tell(&self, holder: &Holder) {
        let mut word = serde_json::to_vec(&holder.bounded()).unwrap_or_default();
        word.push(b'\n');
        if word.len() <= WORD {
            word.resize(WORD, b' ');
            let _ = self.0.write_all_at(&word, 0);
        }
    }
}

/// What became of an attempt to take the lock.
#[derive(Debug)]
pub enum Attempt {
    Taken(Lock),
    /// Somebody has it, and who that is if he said so.
    Busy(Option<Holder>),
}

fn path() -> PathBuf {
    Path::new(RUN).join("lock")
}

/// Tries to take the lock of this host for `me`, without waiting.
pub fn try_lock(root: &Root, me: &Holder) -> Result<Attempt, RootError> {
    root.make_dirs(Path::new(RUN), &Attrs::mode(0o755))?;
    let file = root.open_lock(&path())?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(held) => {
            let lock = Lock(held);
            lock.tell(me);
            Ok(Attempt::Taken(lock))
        }
        Err((mut file, _)) => {
            let mut text = Vec::new();
            let _ = file.read_to_end(&mut text);
            Ok(Attempt::Busy(serde_json::from_slice(&text).ok()))
        }
    }
}

/// Who has the lock now, if anybody has. Only looks, and needs no privilege: taking the lock to see
/// whether it is free could turn away a pass that begins just then.
pub fn holder(root: &Root) -> Option<Holder> {
    let (meta, text) = root.read_with_meta(&path(), WORD * 2).ok()??;
    let holder: Holder = serde_json::from_slice(&text).ok()?;
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    // `1: FLOCK  ADVISORY  WRITE 4242 00:2a:1234 0 EOF`
    let is_this = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, place, ..] = words.as_slice() else {
            return false;
        };
        *pid == holder.pid.to_string()
            && place.rsplit(':').next() == Some(meta.inode.to_string().as_str())
    };
    locks.lines().any(is_this).then_some(holder)
}

/// Kept for as long as nobody else is to do the same on this host.
#[derive(Debug)]
pub struct Alone(#[allow(dead_code, reason = "let go of when dropped")] Option<Flock<File>>);

/// Keeps others out who ask for the same: the folder of what means nothing after a reboot is locked, so
/// that nothing is written. Where there is none yet nobody is kept out. `None`: somebody else has it.
pub fn alone(root: &Root) -> Option<Alone> {
    let Ok(folder) = File::open(root.outside(Path::new(RUN))) else {
        return Some(Alone(None));
    };
    match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
        Ok(held) => Some(Alone(Some(held))),
        Err((_, Errno::EWOULDBLOCK)) => None,
        Err(_) => Some(Alone(None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me(doing: Option<&str>) -> Holder {
        let now = "2026-11-21T04:43:01Z".parse().unwrap();
        Holder {
            doing: doing.map(str::to_owned),
            ..Holder::me("ana".into(), "trueup converge".into(), now)
        }
    }

    #[test]
    fn only_one_has_the_lock_and_it_goes_with_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path()).unwrap();
        assert_eq!(holder(&root), None);
        let first = try_lock(&root, &me(None)).unwrap();
        assert!(matches!(first, Attempt::Taken(_)));
        match try_lock(&root, &me(Some("something else"))).unwrap() {
            Attempt::Busy(holder) => assert_eq!(holder, Some(me(None))),
            Attempt::Taken(_) => panic!("taken twice"),
        }
        assert_eq!(holder(&root), Some(me(None)));
        drop(first);
        assert_eq!(
            holder(&root),
            None,
            "the word outlives it, the lock does not"
        );
        assert!(matches!(
            try_lock(&root, &me(None)).unwrap(),
            Attempt::Taken(_)
        ));
    }

    #[test]
    fn what_the_holder_is_at_can_be_read_however_long_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path()).unwrap();
        let Attempt::Taken(lock) = try_lock(&root, &me(None)).unwrap() else {
            panic!("nobody has it");
        };
        lock.tell(&me(Some(&"ü\"".repeat(500))));
        assert_eq!(
            holder(&root).unwrap().doing.unwrap(),
            "ü\"".repeat(SHOWN / 2)
        );
        lock.tell(&me(Some("short")));
        assert_eq!(holder(&root), Some(me(Some("short"))));
    }

    #[test]
    fn only_one_is_alone_and_nothing_is_written_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path()).unwrap();
        assert!(alone(&root).is_some());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        root.make_dirs(Path::new(RUN), &Attrs::mode(0o755)).unwrap();
        let first = alone(&root);
        assert!(first.is_some() && alone(&root).is_none());
        drop(first);
        assert!(alone(&root).is_some());
    }
}
