//! What the hosts of a model are, what the manifest wants of them, and what may go wrong.

use std::collections::{BTreeMap, BTreeSet};

use super::operator::Act;
use super::world::{Disk, Faults, HostState, OperatorState, Process, Stage, World};
use crate::desired::{Amount, RolloutPolicy, Sha};
use crate::fleet::rollout::identity::Nonce;
use crate::fleet::rollout::register::{Register, WantedShas};

/// The names of the hosts.
pub(super) const NODES: [&str; 4] = ["web0", "web1", "web2", "web3"];

/// A fleet, and what may happen to it.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    pub name: &'static str,
    /// Hosts that serve the old sha. They come first.
    pub serving: usize,
    /// Hosts that serve nothing yet.
    pub newcomers: usize,
    /// The first two hosts are machines with one name.
    pub has_twins: bool,
    pub policy: RolloutPolicy,
    /// The policy that is published with the next sha; `None`: the same.
    pub next_policy: Option<RolloutPolicy>,
    /// Hosts on which the new sha fails its gate, one bit each.
    pub bad_hosts: u8,
    /// Nothing works any more on a host that was taken out, whatever its sha.
    pub is_environment_broken: bool,
    /// The new sha has a step that one host runs for all.
    pub has_step: bool,
    /// The policy's canaries exist.
    pub matches_canary: bool,
    /// The manifest is an older copy: hosts have acted on a newer one.
    pub is_restored: bool,
    /// Hosts count themselves again after each pass.
    pub recounts: bool,
    pub faults: Faults,
    /// What operators do, each act at most once.
    pub acts: Vec<Act>,
    pub grain: Grain,
}

/// Between which calls of a host others may come. Coarser ones have far fewer worlds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grain {
    /// Between any two.
    Call,
    /// Not between a read and the compare-and-swap that follows from it: that one would only be repeated.
    Swap,
    /// Not between a read and the next read either.
    Reads,
}

pub(super) fn old_sha() -> Sha {
    Sha::parse(&"0".repeat(40)).unwrap()
}

pub(super) fn new_sha() -> Sha {
    Sha::parse(&"1".repeat(40)).unwrap()
}

/// The sha that is published in the middle. The one after it is the new one again.
pub(super) fn next_sha() -> Sha {
    Sha::parse(&"2".repeat(40)).unwrap()
}

impl Scenario {
    pub(super) fn new(name: &'static str) -> Scenario {
        Scenario {
            name,
            serving: 2,
            newcomers: 0,
            has_twins: false,
            policy: RolloutPolicy {
                max_unavailable: Amount::Count(1),
                ..RolloutPolicy::default()
            },
            next_policy: None,
            bad_hosts: 0,
            is_environment_broken: false,
            has_step: false,
            matches_canary: true,
            is_restored: false,
            recounts: false,
            faults: Faults::default(),
            acts: Vec::new(),
            grain: Grain::Swap,
        }
    }

    pub(super) fn hosts(&self) -> usize {
        self.serving + self.newcomers
    }

    pub(super) fn slots(&self) -> usize {
        self.policy.max_unavailable.of(self.hosts())
    }

    /// The value of the tag of `per`.
    pub(super) fn group_of(&self, number: usize) -> Option<&'static str> {
        self.policy.per.as_ref().map(|_| ["a", "b"][number % 2])
    }

    pub(super) fn max_failures(&self) -> usize {
        self.policy.max_failures.of(self.hosts())
    }

    /// Whether the failures of serving hosts end the rollout, and nobody lets it go on.
    pub(super) fn bounds_failures(&self) -> bool {
        self.newcomers == 0 && self.acts.is_empty()
    }

    /// The policy of the manifest that wants a sha.
    pub(super) fn policy_of(&self, sha: &Sha) -> &RolloutPolicy {
        let next = self.next_policy.as_ref().filter(|_| *sha == next_sha());
        next.unwrap_or(&self.policy)
    }

    pub(super) fn node_name(&self, number: usize) -> String {
        let number = match number {
            1 if self.has_twins => 0,
            number => number,
        };
        NODES[number].to_owned()
    }

    /// Whether the quarantine of a sha may change.
    pub(super) fn can_quarantine(&self) -> bool {
        self.bad_hosts != 0 || self.is_environment_broken || self.acts.contains(&Act::Lift)
    }

    /// Whether the records of the hosts may change.
    pub(super) fn can_change_hosts(&self) -> bool {
        self.newcomers > 0 || self.faults.departures > 0 || self.faults.publishes > 0
    }

    pub(super) fn first_world(&self) -> World {
        let wanted = WantedShas {
            generation: 2,
            shas: vec![new_sha()],
            hold: None,
        };
        let hosts = (0..self.hosts()).map(|number| {
            let serves = number < self.serving;
            let disk = Disk {
                active: serves.then(old_sha),
                previous: serves.then(old_sha),
                is_proven: serves,
                serves,
                served: serves,
                ..Disk::default()
            };
            HostState {
                begin: disk.clone(),
                now: disk,
                wanted: wanted.clone(),
                stage: Stage::Begin,
                process: Process::default(),
                is_gone: false,
                is_excused: false,
                is_unaware: false,
                is_broken: false,
            }
        });
        World {
            hosts: hosts.collect(),
            register: self.is_restored.then(|| {
                let mut register = Register::new("production", "shop");
                register.generation = wanted.generation + 1;
                register
            }),
            slots: vec![None; self.slots()],
            quarantines: BTreeMap::new(),
            once: BTreeMap::new(),
            marks: BTreeSet::new(),
            wanted: wanted.clone(),
            late_writes: Vec::new(),
            operator: OperatorState {
                left: self.acts.clone(),
                act: None,
                sha: new_sha(),
                generation: wanted.generation,
                shown_nonce: Nonce(0),
                process: Process::default(),
            },
            faults: self.faults,
            bad_hosts: self.bad_hosts,
            is_environment_broken: self.is_environment_broken,
            ignored: BTreeSet::new(),
            violation: None,
            fresh: 1,
        }
    }
}
