//! Who runs now, for everybody to read: a note beside the lock. Nobody has to open the lock for it, and
//! so nobody but root can.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ports::RUN;
use crate::ports::root::Root;
use crate::ports::services::Living;

/// How wide the note is, in bytes. Always the same, so that it is written over and nothing has to be cut
/// off.
const NOTE: usize = 512;

/// No more of what somebody is called or does is kept, in characters.
const SHOWN: usize = 80;

/// Who has the lock, and what he is at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub pid: u32,
    /// When it started, in clock ticks since boot: its id may be another's by now.
    start: u64,
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
        let pid = std::process::id();
        Holder {
            pid,
            start: start_of(pid).unwrap_or(0),
            by,
            command,
            since,
            doing: None,
        }
    }

    /// The same at something.
    #[must_use]
    pub fn at(&self, doing: String) -> Holder {
        Holder {
            doing: Some(doing),
            ..self.clone()
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

    fn lives(&self) -> bool {
        start_of(self.pid) == Some(self.start)
    }

    /// Leaves the note. A failure to say so is no reason not to go on.
    pub(super) fn publish(&self, root: &Root) {
        let word = serde_json::to_vec(&self.bounded()).unwrap_or_default();
        if word.len() <= NOTE {
            let _ = root.note(&path(), &word, NOTE);
        }
    }
}

/// Nobody runs any more.
pub(super) fn withdraw(root: &Root) {
    let _ = root.note(&path(), b"", NOTE);
}

/// Who runs now, if anybody does. Needs no privilege, and believes only in a process that is alive: the
/// note outlives one that was killed.
pub fn holder(root: &Root) -> Option<Holder> {
    let text = root.read(&path(), NOTE * 2).ok()??;
    let holder: Holder = serde_json::from_slice(&text).ok()?;
    holder.lives().then_some(holder)
}

fn start_of(pid: u32) -> Option<u64> {
    Some(Living::find(i32::try_from(pid).ok()?)?.start)
}

fn path() -> PathBuf {
    Path::new(RUN).join("running.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::root::Attrs;

    fn me() -> Holder {
        let now = "2026-11-21T04:43:01Z".parse().unwrap();
        Holder::me("ana".into(), "trueup converge".into(), now)
    }

    #[test]
    fn holder_counts_only_while_its_process_is_alive() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path()).unwrap();
        root.make_dirs(Path::new(RUN), &Attrs::mode(0o755)).unwrap();
        me().publish(&root);
        assert_eq!(holder(&root), Some(me()));
        let reused = Holder {
            start: me().start + 1,
            ..me()
        };
        reused.publish(&root);
        assert_eq!(holder(&root), None, "its id is another's by now");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let dead = Holder {
            pid: child.id(),
            start: start_of(child.id()).unwrap_or(0),
            ..me()
        };
        child.wait().unwrap();
        dead.publish(&root);
        assert_eq!(holder(&root), None, "it has ended");
        me().publish(&root);
        withdraw(&root);
        assert_eq!(holder(&root), None);
    }
}
