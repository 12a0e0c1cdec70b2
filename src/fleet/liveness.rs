//! How long this host has had answers from the store, which decides whether silence of a node counts.
//!
//! A host that was off or cut off from the store for longer than `gone_after` finds all records too old when
//! it returns, and the first few hosts to write again would be the whole list. So a node's silence counts
//! only over a time in which this host itself had answers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::digest;
use crate::ports::root::RootError;
use crate::ports::state::Document;
use crate::ports::{Host, RUN_DIR};

const VERSION: u32 = 1;

/// Fixed size of the file, in bytes; no contents are longer.
const FILE_SIZE: usize = 256;

const DOCUMENT: Document = Document::new(VERSION, 16 * FILE_SIZE).overwritten(FILE_SIZE);

/// Longest time between two queries that is not a gap by itself: passes run every 15 s.
const NORMAL_GAP: Duration = Duration::from_secs(120);

/// Written after every query (`/run/trueup/contact.json`: in memory, and lost at a reboot like the time in
/// which the host heard nothing).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoreLiveness {
    version: u32,
    /// Digest of the store and environment that were queried.
    #[serde(rename = "whose")]
    scope: String,
    /// Since when the store has answered, and when it last answered; by the store's clock.
    since: Timestamp,
    last: Timestamp,
    /// A query since then had no answer.
    cut: bool,
}

impl StoreLiveness {
    /// Loads the last state, if it is of this store and environment.
    pub(super) fn load(host: &Host, store: &str, environment: &str) -> Option<StoreLiveness> {
        let known: StoreLiveness = DOCUMENT.load_cache(&host.root, &StoreLiveness::path())?;
        (known.scope == scope_digest(store, environment)).then_some(known)
    }

    /// The state after an answer. `now`: the store's time.
    pub(super) fn after_answer(
        before: Option<&StoreLiveness>,
        (store, environment): (&str, &str),
        now: Timestamp,
        gone_after: Duration,
    ) -> StoreLiveness {
        // After a gap of a third of `gone_after`, a live host still has had most of that time to send a
        // heartbeat.
        let third = gone_after / 3;
        let is_continuous = |before: &&StoreLiveness| {
            let gap = Duration::try_from(now.duration_since(before.last));
            let max_gap = if before.cut {
                third
            } else {
                third.max(NORMAL_GAP)
            };
            gap.is_ok_and(|gap| gap <= max_gap)
        };
        let since = before
            .filter(is_continuous)
            .map_or(now, |before| before.since);
        StoreLiveness {
            version: VERSION,
            scope: scope_digest(store, environment),
            since,
            last: now,
            cut: false,
        }
    }

    /// The state after a query that failed.
    pub(super) fn after_failure(self) -> StoreLiveness {
        StoreLiveness { cut: true, ..self }
    }

    /// How long the store has answered without a gap.
    pub(super) fn answered_for(&self) -> Duration {
        Duration::try_from(self.last.duration_since(self.since)).unwrap_or_default()
    }

    pub(super) fn save(&self, host: &Host) -> Result<(), RootError> {
        DOCUMENT.save(&host.root, &StoreLiveness::path(), self)
    }

    fn path() -> PathBuf {
        Path::new(RUN_DIR).join("contact.json")
    }
}

/// Has the same length for all names, because `save` overwrites the file in place.
fn scope_digest(store: &str, environment: &str) -> String {
    digest(format!("{store}\n{environment}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::state::testing::assert_round_trip;

    #[test]
    fn example_liveness_survives_a_round_trip() {
        assert_round_trip::<StoreLiveness>(&DOCUMENT, "store-liveness.json");
    }
}
