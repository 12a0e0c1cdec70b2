//! Who runs now, for everybody to read: a note beside the lock. Nobody has to open the lock for it, and
//! so nobody but root can.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ports::RUN_DIR;
use crate::ports::root::Root;
use crate::ports::services::LiveProcess;

/// How wide the note is, in bytes. Always the same, so that it is written over and nothing has to be cut
/// off.
const FILE_BYTES: usize = 512;

/// No more of what somebody is called or does is kept, in characters.
const MAX_TEXT_CHARS: usize = 80;

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
    pub fn current(by: String, command: String, since: Timestamp) -> Holder {
        let pid = std::process::id();
        Holder {
            pid,
            start: start_time(pid).unwrap_or(0),
            by,
            command,
            since,
            doing: None,
        }
    }

    /// The same at something.
    #[must_use]
    pub fn with_activity(&self, doing: String) -> Holder {
        Holder {
            doing: Some(doing),
            ..self.clone()
        }
    }

    /// `process 4242 (trueup converge by ana, since 04:43:01 UTC): deploy code`.
    pub fn describe(&self) -> String {
        let since = self.since.strftime("%T UTC");
        let Holder {
            pid, by, command, ..
        } = self;
        let doing = self.doing.as_ref();
        let doing = doing.map_or(String::new(), |doing| format!(": {doing}"));
        format!("process {pid} ({command} by {by}, since {since}){doing}")
    }

    fn truncated(&self) -> Holder {
        let short = |text: &String| text.chars().take(MAX_TEXT_CHARS).collect();
        Holder {
            by: short(&self.by),
            command: short(&self.command),
            doing: self.doing.as_ref().map(short),
            ..*self
        }
    }

    fn is_alive(&self) -> bool {
        start_time(self.pid) == Some(self.start)
    }

    /// Leaves the note. A failure to say so is no reason not to go on.
    pub(super) fn write(&self, root: &Root) {
        let word = serde_json::to_vec(&self.truncated()).unwrap_or_default();
        if word.len() <= FILE_BYTES {
            let _ = root.overwrite(&holder_path(), &word, FILE_BYTES);
        }
    }
}

/// Nobody runs any more.
pub(super) fn clear(root: &Root) {
    let _ = root.overwrite(&holder_path(), b"", FILE_BYTES);
}

/// Who runs now, if anybody does. Needs no privilege, and believes only in a process that is alive: the
/// note outlives one that was killed.
pub fn read_holder(root: &Root) -> Option<Holder> {
    let text = root.read(&holder_path(), FILE_BYTES * 2).ok()??;
    let holder: Holder = serde_json::from_slice(&text).ok()?;
    holder.is_alive().then_some(holder)
}

fn start_time(pid: u32) -> Option<u64> {
    Some(LiveProcess::find(i32::try_from(pid).ok()?)?.start_time)
}

fn holder_path() -> PathBuf {
    Path::new(RUN_DIR).join("running.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::root::Attrs;

    fn current_holder() -> Holder {
        let now = "2026-11-21T04:43:01Z".parse().unwrap();
        Holder::current("ana".into(), "trueup converge".into(), now)
    }

    #[test]
    fn holder_counts_only_while_its_process_is_alive() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path()).unwrap();
        root.create_dir_all(Path::new(RUN_DIR), &Attrs::mode(0o755))
            .unwrap();
        current_holder().write(&root);
        assert_eq!(read_holder(&root), Some(current_holder()));
        let reused = Holder {
            start: current_holder().start + 1,
            ..current_holder()
        };
        reused.write(&root);
        assert_eq!(read_holder(&root), None, "its id is another's by now");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let dead = Holder {
            pid: child.id(),
            start: start_time(child.id()).unwrap_or(0),
            ..current_holder()
        };
        child.wait().unwrap();
        dead.write(&root);
        assert_eq!(read_holder(&root), None, "it has ended");
        current_holder().write(&root);
        clear(&root);
        assert_eq!(read_holder(&root), None);
    }
}
