//! What is remembered about a process between two calls, and between two passes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ports::root::{Attrs, Root, RootError};
use crate::ports::services::name::UnitName;

const FOLDER: &str = "/var/lib/trueup/process";
const VERSION: u32 = 1;
const MAX_FILE: usize = 64 << 10;

/// One service's memory. A missing or unreadable one is an empty one: the process itself is then
/// found by its mark.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    version: u32,
    pub(super) enabled: bool,
    pub(super) run: Option<Run>,
}

/// The last run that was not ended on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    /// `None`: a unit without a process (a socket, a timer) that is marked as active.
    pub(super) pid: Option<i32>,
    /// When it started, in clock ticks since boot, as in `/proc/PID/stat`.
    pub(super) start: u64,
    /// Of the boot that it belongs to.
    pub(super) boot: String,
    /// When it was last told to reload, in nanoseconds since boot.
    pub(super) reloaded: Option<u64>,
}

impl State {
    pub(super) fn read(root: &Root, name: &UnitName) -> Result<State, RootError> {
        let Some(body) = root.read(&path(name), MAX_FILE)? else {
            return Ok(State::default());
        };
        let state: State = serde_json::from_slice(&body).unwrap_or_default();
        Ok(if state.version == VERSION {
            state
        } else {
            State::default()
        })
    }

    pub(super) fn write(&mut self, root: &Root, name: &UnitName) -> Result<(), RootError> {
        self.version = VERSION;
        let body = serde_json::to_vec_pretty(self).expect("numbers and strings are always JSON");
        root.make_dirs(FOLDER.as_ref(), &Attrs::mode(0o755))?;
        root.replace(&path(name), &body, &Attrs::mode(0o644))
    }
}

fn path(name: &UnitName) -> PathBuf {
    PathBuf::from(format!("{FOLDER}/{}.json", name.short()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_state_is_loaded_and_others_are_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path()).unwrap();
        let name = UnitName::new("puma").unwrap();
        let written = r#"{"version": 1, "enabled": true,
            "run": {"pid": 7, "start": 4711, "boot": "b", "reloaded": null}}"#;
        root.make_dirs(FOLDER.as_ref(), &Attrs::default()).unwrap();
        let put = |body: &str| {
            root.replace(&path(&name), body.as_bytes(), &Attrs::default())
                .unwrap();
        };
        put(written);
        let state = State::read(&root, &name).unwrap();
        let run = Run {
            pid: Some(7),
            start: 4711,
            boot: "b".into(),
            reloaded: None,
        };
        assert_eq!((state.enabled, state.run), (true, Some(run)));
        // From a later version, or torn: as if there were none.
        for body in [&written.replace('1', "2"), "{\"vers"] {
            put(body);
            assert_eq!(State::read(&root, &name).unwrap(), State::default());
        }
    }
}
