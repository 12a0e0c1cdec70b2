//! The results of steps that one host runs for all (`once: fleet`), such as migrations.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::identity::{EntryId, Member, Nonce};
use super::object::UnknownFields;

/// The claim of a host to run such a step. The register holds at most one for an app, whatever the sha.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct OnceClaim {
    pub step: String,
    pub entry: EntryId,
    #[serde(flatten)]
    pub member: Member,
    /// The claim is its writer's if it has this nonce.
    pub claim: Nonce,
    /// By the claimer's own clock, for people.
    pub since: Timestamp,
}

/// How the step ended for a sha, the last time. The truth about it; never evicted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct OnceResult {
    pub version: u32,
    pub nonce: Nonce,
    pub outcome: OnceOutcome,
    pub attempt: u32,
    /// The host that ran it, or the operator who settled it.
    pub by: String,
    /// By that one's clock, for people.
    pub at: Timestamp,
    /// The last lines that it printed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub log_tail: String,
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnceOutcome {
    Succeeded,
    Failed,
    /// It is to run again: its run was interrupted, or an operator asked for another one.
    Retry,
}
