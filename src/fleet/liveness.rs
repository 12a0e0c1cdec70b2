//! Since when this host hears the store.
//!
//! Whoever was cut off from the store, or off, for longer than `gone_after` finds all records too old
//! when it is back, and those that are written first would be all there are. So silence counts only over
//! a time in which this host itself had answers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::digest;
use crate::ports::root::{Attrs, RootError};
use crate::ports::{Host, RUN_DIR};

const VERSION: u32 = 1;

/// How wide the note is, in bytes: more than any is long.
const FILE_SIZE: usize = 256;

/// So long a time between two looks is no gap by itself: passes come every half a minute.
const NORMAL_GAP: Duration = Duration::from_secs(120);

/// Noted at every look (`/run/trueup/contact.json`: memory, and gone after a reboot, as the time was in
/// which nothing was heard).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoreLiveness {
    version: u32,
    /// The store and environment that were looked at.
    whose: String,
    /// Since when looks are answered, and when the last one was; by the store's clock.
    since: Timestamp,
    last: Timestamp,
    /// A look since then had no answer.
    cut: bool,
}

impl StoreLiveness {
    /// What was noted last, if it is of this store and environment.
    pub fn load(host: &Host, store: &str, environment: &str) -> Option<StoreLiveness> {
        let body = host
            .root
            .read(&StoreLiveness::path(), 16 * FILE_SIZE)
            .ok()??;
        let known: StoreLiveness = serde_json::from_slice(&body).ok()?;
        let same = known.version == VERSION && known.whose == scope_digest(store, environment);
        same.then_some(known)
    }

    /// There is an answer. `now`: the store's time.
    pub fn after_answer(
        before: Option<StoreLiveness>,
        (store, environment): (&str, &str),
        now: Timestamp,
        gone_after: Duration,
    ) -> StoreLiveness {
        // After a gap of a third, a host that lives has had most of the time to be heard of.
        let third = gone_after / 3;
        let goes_on = |before: &StoreLiveness| {
            let gap = Duration::try_from(now.duration_since(before.last));
            let most = if before.cut {
                third
            } else {
                third.max(NORMAL_GAP)
            };
            gap.is_ok_and(|gap| gap <= most)
        };
        let since = before.filter(goes_on).map_or(now, |before| before.since);
        StoreLiveness {
            version: VERSION,
            whose: scope_digest(store, environment),
            since,
            last: now,
            cut: false,
        }
    }

    /// There was no answer.
    pub fn after_failure(self) -> StoreLiveness {
        StoreLiveness { cut: true, ..self }
    }

    /// For how long looks have been answered.
    pub fn answered_for(&self) -> Duration {
        Duration::try_from(self.last.duration_since(self.since)).unwrap_or_default()
    }

    pub fn save(&self, host: &Host) -> Result<(), RootError> {
        let body = serde_json::to_vec(self).expect("plain data is always JSON");
        host.root
            .create_dir_all(Path::new(RUN_DIR), &Attrs::mode(0o755))?;
        host.root
            .overwrite(&StoreLiveness::path(), &body, FILE_SIZE)
    }

    fn path() -> PathBuf {
        Path::new(RUN_DIR).join("contact.json")
    }
}

/// Of one length, whatever they are called: a note is written over the one before.
fn scope_digest(store: &str, environment: &str) -> String {
    digest(format!("{store}\n{environment}").as_bytes())
}
