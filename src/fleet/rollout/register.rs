//! The register of an app: the rollouts of its shas through the hosts of one environment. All changes of it are pure
//! functions here; the runner writes the result by compare-and-swap and repeats the change if somebody else came first.
//!
//! Each change is idempotent: a write whose answer was lost is made again.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::entry::{Entry, EntryEnd, HaltCause, HaltRecord, HostFailure};
use super::identity::{EntryId, Nonce};
use super::mutation::{Mutation, is_active};
use super::object::{UnknownFields, VERSION};
use super::once::OnceClaim;
use crate::desired::{Hold, Sha, verify_text};
use crate::settings::Signers;

/// Entries that a register keeps.
const MAX_ENTRIES: usize = 20;

/// Acts of operators that a register keeps.
const MAX_ACTS: usize = 30;

/// The rollouts of one app.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Register {
    pub version: u32,
    pub environment: String,
    pub app: String,
    pub nonce: Nonce,
    /// The newest generation of the manifest that a host of this app has acted on.
    #[serde(default)]
    pub generation: u64,
    /// The number of slots in force, for all entries together.
    pub slots: u32,
    /// Oldest first.
    #[serde(default)]
    pub entries: Vec<Entry>,
    /// The one unresolved claim to run a step for all hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<OnceClaim>,
    /// What operators did, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acts: Vec<Act>,
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// An act of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Act {
    /// By the operator's clock.
    pub at: Timestamp,
    pub by: String,
    /// For example `break-slot 0 of web3`.
    pub what: String,
    pub reason: String,
    /// The operator's signature of [`Act::signed_text`], as the manifest has those of environments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

impl Act {
    /// Why nobody can tell that the operator whom it names did it; `None`: one of the signers has signed it.
    pub(crate) fn unsigned_reason(
        &self,
        environment: &str,
        app: &str,
        signers: &Signers,
    ) -> Option<String> {
        let Some(signature) = &self.signature else {
            return Some("not signed".to_owned());
        };
        let text = self.signed_text(environment, app);
        verify_text(&text, signature, environment, signers, self.at).err()
    }

    /// What an operator signs of an act. It is for people who ask who did it: hosts act on the objects themselves.
    pub(crate) fn signed_text(&self, environment: &str, app: &str) -> String {
        let Act {
            at,
            by,
            what,
            reason,
            ..
        } = self;
        format!(
            "trueup act\nenvironment: {environment}\napp: {app}\nat: {at}\nby: {by}\nwhat: {what}\nreason: {reason}\n"
        )
    }
}

/// What the manifest wants of an app.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct WantedShas {
    /// 0: the manifest has none.
    pub generation: u64,
    /// The sha that most hosts are to be at now, and those of the overrides; behind a hold also the sha of the entry.
    pub shas: Vec<Sha>,
    /// The hold in force.
    pub hold: Option<WantedHold>,
}

/// A hold of the manifest, as far as it concerns permission.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct WantedHold {
    /// The one sha that hosts may still take.
    pub sha: Option<Sha>,
    /// `held by ana until …: reason`.
    pub description: String,
}

impl WantedHold {
    pub(crate) fn of(hold: &Hold) -> WantedHold {
        WantedHold {
            sha: hold.sha.clone(),
            description: hold.description(),
        }
    }
}

/// Who opens an entry, and when by its clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opener<'a> {
    pub node: &'a str,
    pub at: Timestamp,
}

impl Register {
    pub(crate) fn new(environment: &str, app: &str) -> Register {
        Register {
            version: VERSION,
            environment: environment.to_owned(),
            app: app.to_owned(),
            nonce: Nonce(0),
            generation: 0,
            slots: 1,
            entries: Vec::new(),
            claim: None,
            acts: Vec::new(),
            unknown: UnknownFields::default(),
        }
    }

    pub(crate) fn entry(&self, id: &EntryId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id == *id)
    }

    pub(super) fn entry_mut(&mut self, id: &EntryId) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.id == *id)
    }

    /// The entry that stands for a sha now: the newest one, unless it is superseded.
    pub(crate) fn current(&self, sha: &Sha) -> Option<&Entry> {
        let of_sha = self.entries.iter().rev().find(|entry| entry.id.sha == *sha);
        of_sha.filter(|entry| !entry.is_superseded())
    }

    /// Opens an entry for a wanted sha that has none, and ends those of the shas that nobody wants any more.
    pub(crate) fn open(&mut self, sha: &Sha, wanted: &WantedShas, opener: Opener<'_>) {
        // The caller may have read a register that another host has moved on since: a manifest that is older than the
        // register must not open the entry again that a newer one ended.
        let is_old = wanted.generation < self.generation && !is_active(Mutation::OldManifestOpens);
        if is_old {
            return;
        }
        self.supersede(wanted);
        if self.current(sha).is_some() || !wanted.shas.contains(sha) {
            return;
        }
        let newest = self.entries.iter().filter(|entry| entry.id.sha == *sha);
        let newest = newest.map(|entry| entry.id.generation).max();
        let id = EntryId {
            sha: sha.clone(),
            // A manifest without generations, or one that was not increased.
            generation: newest.map_or(wanted.generation, |newest| {
                wanted.generation.max(newest.saturating_add(1))
            }),
        };
        self.entries.push(Entry::new(id, opener.at, opener.node));
        while self.entries.len() > MAX_ENTRIES {
            // The oldest that is over; a manifest with more overrides than that loses its oldest open one.
            let is_over = |entry: &Entry| !entry.is_open();
            let oldest = self.entries.iter().position(is_over).unwrap_or(0);
            self.entries.remove(oldest);
        }
    }

    /// Whether [`Register::open`] would change something for a host that is to get this sha.
    pub(crate) fn lacks(&self, sha: &Sha, wanted: &WantedShas) -> bool {
        let is_newest = wanted.generation >= self.generation;
        let is_unwanted = |entry: &Entry| entry.is_open() && !wanted.shas.contains(&entry.id.sha);
        is_newest
            && wanted.shas.contains(sha)
            && (self.current(sha).is_none() || self.entries.iter().any(is_unwanted))
    }

    /// Ends the entries of the shas that nobody wants any more.
    pub(crate) fn supersede(&mut self, wanted: &WantedShas) {
        if wanted.generation < self.generation {
            return;
        }
        self.generation = wanted.generation;
        for entry in &mut self.entries {
            if !entry.is_superseded() && !wanted.shas.contains(&entry.id.sha) {
                entry.end = Some(EntryEnd::Superseded);
                entry.shrink();
            }
        }
    }

    /// Nobody needs to wait for canaries any more.
    pub(crate) fn skip_canary(&mut self, sha: &Sha) {
        if let Some(entry) = self.open_entry_mut(sha) {
            entry.skips_canary = true;
            let is_canary = |halt: &HaltRecord| halt.cause == HaltCause::NoCanary;
            entry.halt = entry.halt.take().filter(|halt| !is_canary(halt));
        }
    }

    /// Nobody needs to wait for other apps any more.
    pub(crate) fn skip_after(&mut self, sha: &Sha) {
        if let Some(entry) = self.open_entry_mut(sha) {
            entry.skips_after = true;
        }
    }

    /// The entry ends without this host.
    pub(crate) fn ignore(&mut self, sha: &Sha, node: &str) {
        let entry = self.open_entry_mut(sha);
        if let Some(entry) = entry.filter(|entry| !entry.ignored.iter().any(|known| known == node))
        {
            entry.ignored.push(node.to_owned());
            entry.local_failures.retain(|listed| listed.node != node);
        }
    }

    fn open_entry_mut(&mut self, sha: &Sha) -> Option<&mut Entry> {
        let id = self.current(sha).map(|entry| entry.id.clone())?;
        self.entry_mut(&id).filter(|entry| entry.is_open())
    }

    /// Follows the manifest also if that is older: the store, or a part of it, is an older copy.
    pub(crate) fn reset(&mut self, wanted: &WantedShas) {
        self.generation = 0;
        self.supersede(wanted);
    }
    /// A host that served before is proven at the sha.
    pub(crate) fn set_proven(&mut self, id: &EntryId) {
        if let Some(entry) = self.entry_mut(id) {
            entry.proven = true;
        }
    }

    /// A canary has been healthy for as long as the policy wants.
    pub(crate) fn pass_canary(&mut self, id: &EntryId, node: &str) {
        let entry = self.entry_mut(id).into_iter();
        let mut canaries = entry.flat_map(|entry| &mut entry.canaries);
        if let Some(canary) = canaries.find(|canary| canary.node == node) {
            canary.passed = true;
        }
    }

    /// Records that the sha failed on a host, in the epoch in which the host began it. At `max_failures` the sha is to
    /// be quarantined.
    pub(crate) fn record_failure(
        &mut self,
        id: &EntryId,
        epoch: u32,
        failure: HostFailure,
        max_failures: usize,
    ) {
        let Some(entry) = self.entry_mut(id) else {
            return;
        };
        let is_other_epoch = entry.epoch != epoch && !is_active(Mutation::FailureWithoutEpoch);
        if !entry.is_open() || is_other_epoch {
            return;
        }
        let (by, reason) = (failure.member.node.clone(), failure.reason.clone());
        entry.add_failure(failure);
        let is_quarantined = |halt: &HaltRecord| halt.cause == HaltCause::Quarantined;
        if entry.failure_count() >= max_failures && !entry.halt.as_ref().is_some_and(is_quarantined)
        {
            entry.halt = Some(HaltRecord::new(HaltCause::Quarantined, &by, &reason));
        }
    }

    /// Halts an entry that is open and not halted yet.
    pub(crate) fn halt(&mut self, id: &EntryId, halt: HaltRecord) {
        if let Some(entry) = self.entry_mut(id).filter(|entry| entry.is_open()) {
            entry.halt.get_or_insert(halt);
        }
    }

    /// Lets the entry of a sha go on if it was halted for one of these causes.
    pub(crate) fn resume(&mut self, sha: &Sha, causes: &[HaltCause]) {
        if let Some(entry) = self.open_entry_mut(sha) {
            let is_one = |halt: &HaltRecord| causes.contains(&halt.cause);
            entry.halt = entry.halt.take().filter(|halt| !is_one(halt));
        }
    }

    /// Clears what counted against a sha before its quarantine was lifted, of which `epoch` is the number.
    pub(crate) fn lift_quarantine(&mut self, sha: &Sha, epoch: u32) {
        let of_sha = self.entries.iter_mut().filter(|entry| entry.id.sha == *sha);
        for entry in of_sha.filter(|entry| entry.epoch < epoch) {
            entry.epoch = epoch;
            entry.failures.clear();
            entry.unlisted_failures = 0;
            let is_quarantined = |halt: &HaltRecord| halt.cause == HaltCause::Quarantined;
            entry.halt = entry.halt.take().filter(|halt| !is_quarantined(halt));
        }
    }

    /// Every host has it.
    pub(crate) fn set_done(&mut self, id: &EntryId) {
        let entry = self.entry_mut(id);
        if let Some(entry) = entry.filter(|entry| entry.is_open() && entry.halt.is_none()) {
            entry.end = Some(EntryEnd::Done);
            entry.was_done = true;
            entry.shrink();
        }
    }

    /// Whether the sha was done before, so that it needs no canary when it is wanted again.
    pub(crate) fn was_done(&self, sha: &Sha) -> bool {
        let mut of_sha = self.entries.iter().filter(|entry| entry.id.sha == *sha);
        of_sha.any(|entry| entry.was_done)
    }

    /// Claims a step that one host runs for all, unless there is an unresolved claim, or nobody may begin the entry any
    /// more.
    /// `replaces`: the nonce of the claim that its claimer takes up again.
    pub(crate) fn claim(&mut self, claim: &OnceClaim, replaces: Option<Nonce>) {
        let entry = self.entry(&claim.entry);
        let is_open = entry.is_some_and(|entry| entry.halt.is_none() && !entry.is_superseded());
        let is_own = |held: &OnceClaim| {
            let is_other_sha = held.entry.sha != claim.entry.sha;
            Some(held.claim) == replaces || is_other_sha && is_active(Mutation::ClaimPerSha)
        };
        if is_open && self.claim.as_ref().is_none_or(is_own) {
            self.claim = Some(claim.clone());
        }
    }

    /// An operator who settles a claim takes it over first: its claimer finds another nonce in it.
    pub(crate) fn take_claim_over(&mut self, shown: Nonce, nonce: Nonce) {
        if let Some(claim) = self.claim.as_mut().filter(|claim| claim.claim == shown) {
            claim.claim = nonce;
        }
    }

    /// Ends a claim.
    pub(crate) fn release_claim(&mut self, is_it: impl Fn(&OnceClaim) -> bool) {
        self.claim = self.claim.take().filter(|held| !is_it(held));
    }

    /// Keeps an act of an operator in the history.
    pub(crate) fn add_act(&mut self, act: Act) {
        // A write whose answer was lost is repeated.
        if self.acts.contains(&act) {
            return;
        }
        self.acts.push(act);
        let old = self.acts.len().saturating_sub(MAX_ACTS);
        self.acts.drain(..old);
    }
}
