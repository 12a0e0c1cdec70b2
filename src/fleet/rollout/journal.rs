//! What a host remembers of the rollouts of an app, durably: what it began in the store, by nonce.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::entry::HostFailure;
use super::identity::{EntryId, Member, Nonce};
use super::object::RolloutError;
use super::once::{OnceClaim, OnceOutcome};
use crate::desired::Sha;
use crate::ports::store::Etag;

/// Where a host keeps its journal of one app.
pub(crate) trait JournalStore {
    fn load(&self) -> Result<Journal, RolloutError>;
    /// Saves durably.
    fn save(&self, journal: &Journal) -> Result<(), RolloutError>;
}

/// What this host began in the rollouts of one app.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Journal {
    /// The slot that this host holds, or is about to hold.
    pub slot: Option<JournaledSlot>,
    /// The last permission to activate.
    pub grant: Option<Grant>,
    pub claim: Option<JournaledClaim>,
    pub failure: Option<JournaledFailure>,
    /// How often this host has run the step of its claim since a result was recorded.
    pub step_runs: u32,
    /// The sha of this host's mark in the store.
    pub mark: Option<Sha>,
    /// The mark is there.
    pub is_marked: bool,
    /// How long the wanted sha has been healthy here.
    pub health: Option<JournaledHealth>,
    /// When this host last tried to end the entry, by its own clock.
    pub tried_to_finish: Option<Timestamp>,
    /// The sha that failed here last.
    pub failed_here: Option<FailedHere>,
    /// The last lift of a quarantine that this host has followed.
    pub lift: Option<FollowedLift>,
    /// Who counted the hosts when this host last looked, and since when it is so.
    pub counter: Option<KnownCounter>,
    /// Numbers the deployments of this host that failed.
    pub attempts: u64,
    /// What this host knows the end of, so that it asks no more.
    pub ended: Option<Ended>,
    /// The last rolling restart that this host has marked as carried out.
    pub restarted: Option<Timestamp>,
    /// Why the register says that this host does not take the sha.
    pub listed: Option<ListedFailure>,
}

/// A slot. Noted before it is written, so that a host which was killed finds its own slot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct JournaledSlot {
    pub number: u32,
    /// The slot is held by this host exactly while it has this nonce.
    pub nonce: Nonce,
    /// The version that the write replaces. While the slot is at it, the write may still arrive.
    pub replaces: Option<Etag>,
    pub entry: Option<EntryId>,
    /// By this host's own clock, for people.
    pub since: Timestamp,
    /// This host has begun to give it back. That write may arrive at any time, so nothing relies on the slot any more.
    #[serde(default)]
    pub is_leaving: bool,
}

/// A permission to activate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Grant {
    pub entry: EntryId,
    /// The epoch of the sha's quarantine then.
    pub epoch: u32,
    /// This host served a proven release then.
    pub served: bool,
}

/// The sum of the times between good proofs of a sha.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct JournaledHealth {
    pub sha: Sha,
    /// In seconds.
    pub healthy_s: u64,
    /// By this host's own clock.
    pub last: Timestamp,
}

/// A sha that is not tried again on this host before an operator lifted its quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct FailedHere {
    pub sha: Sha,
    /// The epoch of the sha's quarantine then.
    pub epoch: u32,
    /// One line.
    pub reason: String,
}

/// A lift of the quarantine of a sha, after which this host has lifted its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct FollowedLift {
    pub sha: Sha,
    pub epoch: u32,
}

/// A counter of the hosts. A successor goes by how long it has known no other one, because clocks of hosts differ.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct KnownCounter {
    pub entry: EntryId,
    pub number: u32,
    /// By this host's own clock.
    pub since: Timestamp,
}

/// A rollout that is over.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub sha: Sha,
    /// The generation of the manifest that wanted it. With another one, the same sha may be wanted anew.
    pub generation: u64,
}

/// A failure of this host's own that the register lists.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct ListedFailure {
    pub sha: Sha,
    /// The generation of the manifest then. With another one, the same sha may have another entry.
    pub generation: u64,
    /// Without its numbers, which differ in each attempt.
    pub reason: String,
    /// The register has it; otherwise the write may still arrive, or there was no room.
    pub is_listed: bool,
}

/// A claim to run a step for all hosts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct JournaledClaim {
    pub claim: Nonce,
    /// The nonce of before: each pass that takes the claim up again gives it another one, so that an operator who
    /// settles a claim settles none that came to life meanwhile.
    pub replaces: Option<Nonce>,
    pub entry: EntryId,
    pub step: String,
    /// How the step ended, until the store has it.
    pub ended: Option<StepEnd>,
}

impl JournaledClaim {
    /// Whether a claim in the register is this one.
    pub(super) fn is(&self, held: &OnceClaim) -> bool {
        held.claim == self.claim || Some(held.claim) == self.replaces
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct StepEnd {
    pub outcome: OnceOutcome,
    pub log_tail: String,
}

/// A failure that the register has to know before the slot is given back.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct JournaledFailure {
    pub entry: EntryId,
    pub epoch: u32,
    pub attempt: u64,
    pub reason: String,
    pub log_tail: String,
    /// This host served before: it counts. One that did not counts only where nobody serves.
    pub served: bool,
    /// The release before did not prove itself either.
    pub is_environment: bool,
}

impl JournaledFailure {
    pub(super) fn describe(&self, member: &Member) -> HostFailure {
        HostFailure {
            member: member.clone(),
            attempt: self.attempt,
            reason: self.reason.clone(),
            log_tail: self.log_tail.clone(),
        }
    }
}
