//! What this host last published of itself, and why it could not.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{NodeRecord, record_key};
use crate::ports::root::RootError;
use crate::ports::state::Document;
use crate::ports::store::{Etag, StoreError};
use crate::ports::{Host, RUN_DIR};

pub(super) const VERSION: u32 = 1;
const DOCUMENT: Document = Document::new(VERSION, 1 << 20).compact();

/// The last published record (`/run/trueup/node.json`).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LastPublished {
    pub version: u32,
    pub store: String,
    pub key: String,
    /// Time of the write, by this host's clock.
    pub at: Timestamp,
    /// `None` if the store does not have it.
    pub etag: Option<Etag>,
    pub record: NodeRecord,
    /// A write since then had no answer, so the store may have another record.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub uncertain: bool,
    /// Why the store does not have the record as it should.
    #[serde(default, rename = "untold")]
    pub publish_error: Option<PublishFailure>,
}

/// Why peers do not see this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PublishFailure {
    pub why: String,
    /// Retry at the next pass instead of the next heartbeat.
    #[serde(default)]
    pub soon: bool,
    /// The store refused the write: retry when its answers change, and once a minute.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
}

impl LastPublished {
    fn path() -> PathBuf {
        Path::new(RUN_DIR).join("node.json")
    }

    pub(super) fn load(host: &Host) -> Option<LastPublished> {
        DOCUMENT.load_cache(&host.root, &LastPublished::path())
    }

    pub(super) fn save(&self, host: &Host) -> Result<(), RootError> {
        DOCUMENT.save(&host.root, &LastPublished::path(), self)
    }
}

impl PublishFailure {
    pub(super) fn unreachable(error: &StoreError) -> PublishFailure {
        PublishFailure {
            why: format!("this host is not published to its peers: {error}"),
            soon: true,
            refused: false,
        }
    }

    pub(super) fn refused(error: &StoreError) -> PublishFailure {
        PublishFailure {
            why: format!(
                "this host is not published to its peers, and counts as gone after a while: {error} (allow writes to `nodes/`, or set `fleet: {{publish: false}}`)"
            ),
            soon: false,
            refused: true,
        }
    }

    pub(super) fn name_taken(node: &str, machine: &str) -> PublishFailure {
        let machine: String = machine.chars().take(8).collect();
        PublishFailure {
            why: format!(
                "another machine (id {machine}…) uses the node name `{node}`, so this one is not published to its peers: if this one replaces it, `trueup fleet --forget {node} --yes`; else give it its own name (`node:` in the settings). Otherwise the name becomes free after `gone_after`"
            ),
            soon: false,
            refused: false,
        }
    }
}

/// Why peers do not see this host, as the last pass saved it. Makes no request.
pub(crate) fn publish_error(host: &Host, environment: &str, node: &str) -> Option<String> {
    let key = record_key(environment, node);
    let last = LastPublished::load(host).filter(|last| last.key == key)?;
    last.publish_error.map(|failure| failure.why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::state::testing::assert_round_trip;

    #[test]
    fn example_of_the_last_published_record_survives_a_round_trip() {
        assert_round_trip::<LastPublished>(&DOCUMENT, "last-published.json");
    }
}
