//! The state of the model: the store, the hosts, an operator, and the faults that are left.

use std::collections::{BTreeMap, BTreeSet};

use super::call::{Call, Reply, Write};
use super::invariant::Invariant;
use super::operator::Act;
use crate::desired::Sha;
use crate::fleet::rollout::identity::Nonce;
use crate::fleet::rollout::journal::Journal;
use crate::fleet::rollout::once::OnceResult;
use crate::fleet::rollout::quarantine::Quarantine;
use crate::fleet::rollout::register::{Register, WantedShas};
use crate::fleet::rollout::slot::Slot;

/// Everything that is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub register: Option<Register>,
    pub slots: Vec<Option<Slot>>,
    pub quarantines: BTreeMap<Sha, Quarantine>,
    /// The results of the one step.
    pub once: BTreeMap<Sha, OnceResult>,
    pub marks: BTreeSet<(Sha, String)>,
    pub wanted: WantedShas,
    /// Writes that may still arrive.
    pub late_writes: Vec<Write>,
    pub hosts: Vec<HostState>,
    pub operator: OperatorState,
    pub faults: Faults,
    /// Hosts on which the new sha fails its gate, one bit each.
    pub bad_hosts: u8,
    /// Nothing works on a host that was taken out, whatever its sha.
    pub is_environment_broken: bool,
    /// Hosts without which an operator ended the rollout.
    pub ignored: BTreeSet<usize>,
    /// What broke.
    pub violation: Option<Invariant>,
    /// The first nonce that nobody has used.
    pub fresh: u64,
}

/// Code that runs up to its next call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Process {
    /// The nonces that it has made.
    pub minted: Vec<Nonce>,
    /// The answers that it has got.
    pub log: Vec<Reply>,
    /// The call that it is about to make; `None`: it does not run.
    pub call: Option<Call>,
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct HostState {
    /// What is on its disk when the stage of its pass begins; it is run again from here at each step.
    pub begin: Disk,
    /// What is on its disk now.
    pub now: Disk,
    /// What its pass has read of the manifest.
    pub wanted: WantedShas,
    /// Where its pass is.
    pub stage: Stage,
    pub process: Process,
    /// It never comes back.
    pub is_gone: bool,
    /// It held its slot when the sha was quarantined, and has not asked since.
    pub is_excused: bool,
    /// It has not read the newest manifest since it was published.
    pub is_unaware: bool,
    /// An operator broke its slot while it was out of service.
    pub is_broken: bool,
}

/// The stages of a pass. A stage depends on the disk and on what it reads itself, so its answers are forgotten at its
/// end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    Begin,
    Claim,
    RunStep,
    Drain,
    Switch,
    Gate,
    Proven,
    Finish,
    Recount,
    Leave,
}

/// What survives a crash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Disk {
    pub journal: Journal,
    pub active: Option<Sha>,
    /// The active release is proven.
    pub is_proven: bool,
    /// The last release that was proven here, to which a failed one goes back.
    pub previous: Option<Sha>,
    /// It has served a proven release.
    pub serves: bool,
    /// It served one before the trial that it is in.
    pub served: bool,
    /// It does not get requests.
    pub is_drained: bool,
    /// It runs the step now. Not on disk: a crash ends it.
    pub runs_step: bool,
}

impl Disk {
    /// A serving host that is out of service.
    pub(super) fn is_out(&self) -> bool {
        self.serves && (self.is_drained || !self.is_proven)
    }
}

/// An operator, and what that one may still do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct OperatorState {
    pub left: Vec<Act>,
    /// What the command does that runs now.
    pub act: Option<Act>,
    /// The sha that it is about.
    pub sha: Sha,
    /// The generation of the manifest when it began.
    pub generation: u64,
    /// The nonce of the slot or claim that was shown to the operator.
    pub shown_nonce: Nonce,
    pub process: Process,
}

/// How many more faults there may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Faults {
    pub crashes: u8,
    /// Hosts that never come back.
    pub departures: u8,
    /// Writes that take effect although their answer is lost.
    pub lost_replies: u8,
    /// Writes without an answer that arrive later, or never.
    pub late_writes: u8,
    /// Writes that arrive twice.
    pub duplicates: u8,
    /// Hosts that stand still for longer than an assessment is good for.
    pub pauses: u8,
    /// Runs of the step that fail.
    pub step_failures: u8,
    /// Another sha is published.
    pub publishes: u8,
}
