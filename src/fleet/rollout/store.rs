//! What a rollout needs of the store. One implementation reads and writes the objects of a bucket, the other is the
//! store of the model, which interrupts a host at each of these calls.

use std::collections::BTreeSet;

use super::identity::Nonce;
use super::object::RolloutError;
use super::once::OnceResult;
use super::quarantine::Quarantine;
use super::register::{Register, WantedShas};
use super::slot::{Slot, SlotHolder};
use crate::desired::Sha;
use crate::ports::store::Etag;

/// An object at one version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Versioned<T> {
    pub object: T,
    pub etag: Etag,
}

/// The result of a read; `None` if there is no such object.
pub(crate) type Read<T> = Result<Option<Versioned<T>>, RolloutError>;

/// Attempts at a change while others keep coming first.
pub(super) const MAX_ATTEMPTS: u32 = 10;

/// The result of a compare-and-swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Swap {
    Written,
    /// Somebody else wrote first; nothing was written.
    Conflict,
}

/// A host of the app, as its record says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct AppHost {
    pub node: String,
    /// It was heard of within three heartbeats.
    pub is_live: bool,
    /// Its active release is proven.
    pub serves: bool,
    /// The policy's canaries are chosen among those that match.
    pub matches_canary: bool,
    /// The sha that the manifest wants of it, unless an operator pinned another one there, or it may not write what
    /// rollouts need: the rollout does not wait for it.
    pub wanted: Option<Sha>,
}

/// The objects of one app in one environment. `known`: the version that a write replaces; `None`: there is none yet.
///
/// A call that ends with an error may have written nevertheless.
pub(crate) trait RolloutStore {
    fn register(&self) -> Read<Register>;
    /// The register of another app of the environment.
    fn register_of(&self, app: &str) -> Read<Register>;
    fn swap_register(
        &self,
        register: &Register,
        known: Option<&Etag>,
    ) -> Result<Swap, RolloutError>;

    fn slot(&self, number: u32) -> Read<Slot>;

    /// Who holds which of these slots, in their order. Several reads may be under way at a time.
    fn holders(&self, numbers: &[u32]) -> Result<Vec<(u32, SlotHolder)>, RolloutError> {
        let mut held = Vec::new();
        for number in numbers {
            let found = self.slot(*number)?;
            let holder = found.and_then(|found| found.object.holder);
            held.extend(holder.map(|holder| (*number, holder)));
        }
        Ok(held)
    }

    fn swap_slot(
        &self,
        number: u32,
        slot: &Slot,
        known: Option<&Etag>,
    ) -> Result<Swap, RolloutError>;

    fn quarantine(&self, sha: &Sha) -> Read<Quarantine>;
    fn swap_quarantine(
        &self,
        sha: &Sha,
        quarantine: &Quarantine,
        known: Option<&Etag>,
    ) -> Result<Swap, RolloutError>;

    fn once(&self, sha: &Sha, step: &str) -> Read<OnceResult>;
    fn swap_once(
        &self,
        sha: &Sha,
        step: &str,
        result: &OnceResult,
        known: Option<&Etag>,
    ) -> Result<Swap, RolloutError>;

    /// Marks a node as proven at a sha.
    fn put_mark(&self, sha: &Sha, node: &str) -> Result<(), RolloutError>;
    fn delete_mark(&self, sha: &Sha, node: &str) -> Result<(), RolloutError>;
    /// The nodes that are proven at a sha.
    fn marks(&self, sha: &Sha) -> Result<Vec<String>, RolloutError>;

    /// The hosts of the app. Reads the records of all hosts, so it is asked rarely.
    fn hosts(&self) -> Result<Vec<AppHost>, RolloutError>;

    /// Whether all live hosts that are to have a sha are among these nodes; `false` as well of a sha that the manifest does
    /// not want, so that no host is to have it. Reads the records of few others: the first that is missing decides.
    fn are_all_hosts(&self, sha: &Sha, nodes: &BTreeSet<String>) -> Result<bool, RolloutError>;

    /// What the manifest wants of the app now.
    fn wanted(&self) -> Result<WantedShas, RolloutError>;
    /// What the manifest wants of another app now; `None`: nothing.
    fn wanted_of(&self, app: &str) -> Result<Option<WantedShas>, RolloutError>;

    /// A number that no other write has.
    fn nonce(&self) -> Nonce;
}
