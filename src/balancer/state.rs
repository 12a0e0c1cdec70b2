//! What keepalived last decided about this host, for each of its instances.
//!
//! keepalived keeps that to itself and runs a command when it changes: `trueup balancer state`. The files are root's, in
//! a folder of root's, so no other user can make this host believe that it is the master. A reboot removes them.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ports::RUN_DIR;
use crate::ports::root::{Root, RootError};
use crate::ports::state::{Document, StateError};

const VERSION: u32 = 1;

const DOCUMENT: Document = Document::new(VERSION, 4 << 10).compact();

/// Longest name of an instance: it is a part of the name of a file.
const MAX_NAME_LENGTH: usize = 64;

/// The role of this host in a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// This host has the address.
    Master,
    /// Another host has it, and this one would take over.
    Backup,
    /// The check fails: this host would not take over.
    Fault,
    /// keepalived does not run.
    Stop,
}

impl State {
    pub(crate) fn word(self) -> &'static str {
        match self {
            State::Master => "master",
            State::Backup => "backup",
            State::Fault => "fault",
            State::Stop => "stop",
        }
    }
}

/// A state, and since when an instance is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordedState {
    pub state: State,
    pub since: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct StateFile {
    version: u32,
    #[serde(flatten)]
    recorded: RecordedState,
}

/// Whether this can be the name of an instance: a word of keepalived.conf, and a part of the name of a file.
pub(crate) fn is_instance_name(name: &str) -> bool {
    name.len() <= MAX_NAME_LENGTH
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// Records the state of an instance. keepalived also reports one that has not changed, when it loads its configuration
/// again: that keeps its time.
pub(crate) fn record(
    root: &Root,
    instance: &str,
    state: State,
    now: Timestamp,
) -> Result<(), RootError> {
    let path = file_of(instance)?;
    let before: Option<StateFile> = DOCUMENT.load_cache(root, &path);
    if before.is_some_and(|file| file.recorded.state == state) {
        return Ok(());
    }
    let file = StateFile {
        version: VERSION,
        recorded: RecordedState { state, since: now },
    };
    DOCUMENT.save(root, &path, &file)
}

/// The state of an instance; `None`: keepalived has reported none since this host was booted.
pub(crate) fn read(root: &Root, instance: &str) -> Result<Option<RecordedState>, StateError> {
    let file: Option<StateFile> = DOCUMENT.load(root, &file_of(instance)?)?;
    Ok(file.map(|file| file.recorded))
}

fn file_of(instance: &str) -> Result<PathBuf, RootError> {
    let path = Path::new(RUN_DIR).join(format!("balancer/{instance}.json"));
    match is_instance_name(instance) {
        true => Ok(path),
        false => Err(RootError::InvalidPath {
            path,
            why: "expected a name of letters, digits, `-`, `_` or `.`",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::state::testing::assert_round_trip;
    use crate::ports::testing::Sandbox;

    #[test]
    fn example_of_a_state_survives_a_round_trip() {
        assert_round_trip::<StateFile>(&DOCUMENT, "balancer-state.json");
    }

    #[test]
    fn state_is_read_as_recorded_and_keeps_its_time() {
        let sandbox = Sandbox::with_base_system();
        let root = &sandbox.host.root;
        assert_eq!(read(root, "web").unwrap(), None);
        for state in [State::Master, State::Backup, State::Fault, State::Stop] {
            let since = sandbox.host.clock.now();
            record(root, "web", state, since).unwrap();
            sandbox.clock.advance(60);
            record(root, "web", state, sandbox.host.clock.now()).unwrap();
            let recorded = read(root, "web").unwrap();
            assert_eq!(recorded, Some(RecordedState { state, since }));
        }
        assert_eq!(read(root, "other").unwrap(), None);
        assert_eq!(sandbox.mode("/run/trueup/balancer"), 0o755);
        assert_eq!(sandbox.mode("/run/trueup/balancer/web.json"), 0o644);
    }

    #[test]
    fn name_leads_to_no_other_folder() {
        let sandbox = Sandbox::with_base_system();
        let root = &sandbox.host.root;
        for name in ["", ".", "..", "../web", "a/b", "a b", &"a".repeat(65)] {
            let recorded = record(root, name, State::Master, Timestamp::UNIX_EPOCH);
            assert!(recorded.is_err(), "{name}");
            assert!(read(root, name).is_err(), "{name}");
        }
        assert!(!sandbox.exists("/run/trueup"));
    }
}
