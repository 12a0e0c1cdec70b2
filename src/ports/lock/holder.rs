//! The lock holder, published in a world-readable file beside the lock. Readers need not open the lock
//! itself, so only root can.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ports::RUN_DIR;
use crate::ports::root::Root;
use crate::ports::services::LiveProcess;
use crate::ports::state::Document;

/// Size of the file in bytes. Always the same, so that it is overwritten without truncation.
const FILE_BYTES: usize = 512;

const DOCUMENT: Document = Document::unversioned(2 * FILE_BYTES).overwritten(FILE_BYTES);

/// Longest text that is kept of a name or an activity, in characters.
const MAX_TEXT_CHARS: usize = 80;

/// The process that holds the lock, with its activity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub pid: u32,
    /// Start time in clock ticks since boot: its id may have been reused.
    start: u64,
    /// The user, or the systemd unit, that started it.
    pub by: String,
    /// Its command, such as `trueup converge`.
    pub command: String,
    pub since: Timestamp,
    /// Its current activity, once it has begun to change something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doing: Option<String>,
}

impl Holder {
    /// Describes this process.
    pub(crate) fn current(by: String, command: String, since: Timestamp) -> Holder {
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

    /// The same holder with this activity.
    #[must_use]
    pub(crate) fn with_activity(&self, doing: String) -> Holder {
        Holder {
            doing: Some(doing),
            ..self.clone()
        }
    }

    /// `process 4242 (trueup converge by ana, since 04:43:01 UTC): deploy code`.
    pub(crate) fn describe(&self) -> String {
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

    /// Writes the file. A failure is ignored, since the pass can run without it.
    pub(super) fn write(&self, root: &Root) {
        let word = DOCUMENT.encode(&self.truncated());
        if word.len() <= FILE_BYTES {
            let _ = DOCUMENT.write(root, &holder_path(), &word);
        }
    }
}

/// Clears the file.
pub(super) fn clear(root: &Root) {
    let _ = DOCUMENT.write(root, &holder_path(), b"");
}

/// The current holder, if any. Needs no privilege, and checks that the process is alive: the file outlives a
/// killed one.
pub(crate) fn read_holder(root: &Root) -> Option<Holder> {
    let holder: Holder = DOCUMENT.load_cache(root, &holder_path())?;
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
    use crate::ports::state::testing::assert_round_trip;

    #[test]
    fn example_holder_survives_a_round_trip() {
        assert_round_trip::<Holder>(&DOCUMENT, "lock-holder.json");
    }

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
