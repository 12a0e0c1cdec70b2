//! The saved state of a service, kept between calls and passes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ports::root::{Root, RootError};
use crate::ports::services::name::UnitName;
use crate::ports::state::{Document, StateError};

const STATE_FOLDER: &str = "/var/lib/trueup/process";
const VERSION: u32 = 1;
const DOCUMENT: Document = Document::new(VERSION, 64 << 10);

/// State of one service. A missing or unreadable file counts as empty: the process is then found by its
/// mark.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedState {
    version: u32,
    pub(super) enabled: bool,
    pub(super) run: Option<SavedRun>,
}

/// The last run that no operation has stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedRun {
    /// `None`: a unit without a process (a socket, a timer) that is marked as active.
    pub(super) pid: Option<i32>,
    /// Start time, in clock ticks since boot, as in `/proc/PID/stat`.
    pub(super) start: u64,
    /// The boot that it belongs to.
    pub(super) boot: String,
    /// Time of the last reload, in nanoseconds since boot.
    pub(super) reloaded: Option<u64>,
}

impl SavedState {
    pub(super) fn load(root: &Root, name: &UnitName) -> Result<SavedState, RootError> {
        match DOCUMENT.load(root, &state_path(name)) {
            Ok(state) => Ok(state.unwrap_or_default()),
            Err(StateError::Root(error)) => Err(error),
            Err(StateError::Damaged { .. } | StateError::OtherVersion { .. }) => {
                Ok(SavedState::default())
            }
        }
    }

    pub(super) fn save(&mut self, root: &Root, name: &UnitName) -> Result<(), RootError> {
        self.version = VERSION;
        DOCUMENT.save(root, &state_path(name), self)
    }
}

fn state_path(name: &UnitName) -> PathBuf {
    PathBuf::from(format!("{STATE_FOLDER}/{}.json", name.short()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::root::Attrs;
    use crate::ports::state::testing::assert_round_trip;

    #[test]
    fn example_state_survives_a_round_trip() {
        assert_round_trip::<SavedState>(&DOCUMENT, "process.json");
    }

    #[test]
    fn version_1_state_is_loaded_and_others_are_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path()).unwrap();
        let name = UnitName::new("puma").unwrap();
        let written = r#"{"version": 1, "enabled": true,
            "run": {"pid": 7, "start": 4711, "boot": "b", "reloaded": null}}"#;
        root.create_dir_all(STATE_FOLDER.as_ref(), &Attrs::default())
            .unwrap();
        let put = |body: &str| {
            root.write_atomic(&state_path(&name), body.as_bytes(), &Attrs::default())
                .unwrap();
        };
        put(written);
        let state = SavedState::load(&root, &name).unwrap();
        let run = SavedRun {
            pid: Some(7),
            start: 4711,
            boot: "b".into(),
            reloaded: None,
        };
        assert_eq!((state.enabled, state.run), (true, Some(run)));
        // From a later version, or truncated: counts as missing.
        for body in [&written.replace('1', "2"), "{\"vers"] {
            put(body);
            assert_eq!(
                SavedState::load(&root, &name).unwrap(),
                SavedState::default()
            );
        }
    }
}
