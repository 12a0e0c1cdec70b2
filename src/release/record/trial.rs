//! The record of what a release still has to show.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The record of a trial: a switch of `current` on which the gate has not decided yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordedTrial {
    /// The release on trial.
    pub name: String,
    /// The release that was active before, to which a failed trial rolls back. In a rollback only one that had passed
    /// its gate: it becomes active again if the restored one fails as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The switch is itself a rollback; if it fails, there is no further one.
    #[serde(rename = "back", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_rollback: bool,
    /// The release had passed its gate, and became unhealthy while it was new.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_repeated: bool,
    /// How often its services crashed since it passed its gate, if that is why the trial is repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crashed: Option<String>,
}

/// The record of a release that passed its gate for the first time, and is watched for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordedBake {
    /// The new release.
    pub name: String,
    /// The release that was active before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    pub until: Timestamp,
    /// How often its services had crashed when it passed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub crashes: u32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde calls"
)]
fn is_zero(count: &u32) -> bool {
    *count == 0
}
