//! May this host go on with a wanted sha? A pure function of what was read.

use super::entry::{Entry, EntryState, HaltRecord};
use super::journal::{FailedHere, JournaledClaim};
use super::quarantine::Quarantine;
use super::register::{Register, WantedShas};
use crate::desired::Sha;

/// What the decision is made from.
pub(super) struct Situation<'a> {
    pub register: &'a Register,
    pub wanted: &'a WantedShas,
    pub sha: &'a Sha,
    pub node: &'a str,
    /// This host serves a proven release of the app.
    pub serves: bool,
    pub quarantine: Option<&'a Quarantine>,
    /// The sha failed here, and nobody lifted its quarantine since.
    pub failed_here: Option<&'a FailedHere>,
    /// The claim of this host to run a step for all.
    pub own_claim: Option<&'a JournaledClaim>,
    pub wants_canaries: bool,
    /// The first app of `after` that is not done.
    pub after: Option<&'a str>,
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Decision {
    /// It may, once it holds a slot.
    NeedsSlot,
    /// It may: it takes nobody out of service.
    Free,
    Blocked(Obstacle),
}

/// Why a host may not go on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Obstacle {
    /// The manifest that this pass read is older than one that other hosts have acted on, or wants another sha now.
    OldManifest,
    Quarantined {
        by: String,
        reason: String,
    },
    Halted(HaltRecord),
    /// A hold of the manifest freezes the app at another sha, in words.
    Held(String),
    /// The hosts of the app are being counted.
    Counting,
    /// These canaries have not passed.
    Canaries(Vec<String>),
    /// Another app comes first, and is not done.
    After(String),
    /// This host serves nothing yet, and no host that serves has shown that the sha works.
    Unproven,
    /// It failed on this host.
    FailedHere(String),
    /// These slots are held, and this host found no free one.
    Slots(Vec<HeldSlot>),
    /// An operator broke the slot of this host.
    SlotBroken,
    /// A host with another value of the tag of `per` is out of service.
    OtherGroup {
        group: String,
        held: HeldSlot,
    },
    /// Another host runs a step for all.
    Claimed {
        node: String,
        step: String,
        sha: Sha,
    },
    /// A step that one host runs for all failed.
    StepFailed {
        step: String,
        log_tail: String,
    },
}

/// A slot that another host holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct HeldSlot {
    pub number: u32,
    pub node: String,
}

/// Decides.
pub(super) fn decide(situation: &Situation<'_>) -> Decision {
    let Situation {
        register,
        wanted,
        sha,
        ..
    } = situation;
    if wanted.generation < register.generation || !wanted.shas.contains(sha) {
        return Decision::Blocked(Obstacle::OldManifest);
    }
    let Some(entry) = register.current(sha) else {
        return Decision::Blocked(Obstacle::OldManifest);
    };
    if let Some(quarantine) = situation.quarantine.filter(|found| found.in_force) {
        return Decision::Blocked(Obstacle::Quarantined {
            by: quarantine.by.clone(),
            reason: quarantine.reason.clone(),
        });
    }
    let hold = wanted.hold.as_ref();
    if let Some(hold) = hold.filter(|hold| hold.sha.as_ref() != Some(*sha)) {
        return Decision::Blocked(Obstacle::Held(hold.description.clone()));
    }
    match obstacle(situation, entry) {
        Some(obstacle) => Decision::Blocked(obstacle),
        None if situation.serves => Decision::NeedsSlot,
        None => Decision::Free,
    }
}

fn obstacle(situation: &Situation<'_>, entry: &Entry) -> Option<Obstacle> {
    if let (EntryState::Halted, Some(halt)) = (entry.state(), &entry.halt) {
        return Some(Obstacle::Halted(halt.clone()));
    }
    if let Some(failed) = situation.failed_here {
        return Some(Obstacle::FailedHere(failed.reason.clone()));
    }
    // The canaries are chosen when the hosts are counted.
    let needs_count = situation.wants_canaries || !situation.serves;
    if needs_count && entry.count.is_none() && entry.is_open() {
        return Some(Obstacle::Counting);
    }
    if let Some(app) = situation.after.filter(|_| !entry.skips_after) {
        return Some(Obstacle::After(app.to_owned()));
    }
    if !entry.canaries_passed() && !entry.is_canary(situation.node) {
        let waiting = entry.canaries.iter().filter(|canary| !canary.passed);
        let waiting = waiting.map(|canary| canary.node.clone());
        return Some(Obstacle::Canaries(waiting.collect()));
    }
    let serving = entry.count.map_or(0, |count| count.serving);
    let is_known_good = entry.proven || entry.was_done || serving == 0;
    if !situation.serves && !is_known_good {
        return Some(Obstacle::Unproven);
    }
    // Everybody needs the result of the step: no slot is taken to wait for it.
    let claim = situation.register.claim.as_ref();
    let other = claim.filter(|claim| !situation.own_claim.is_some_and(|own| own.is(claim)));
    if let Some(claim) = other.filter(|claim| claim.entry.sha == entry.id.sha) {
        return Some(Obstacle::Claimed {
            node: claim.member.node.clone(),
            step: claim.step.clone(),
            sha: claim.entry.sha.clone(),
        });
    }
    None
}
