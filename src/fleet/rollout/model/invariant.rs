//! The invariants, as they can be seen in a world, or at a step.

use super::scenario::Scenario;
use super::world::{HostState, World};
use crate::desired::Sha;
use crate::fleet::rollout::entry::EntryEnd;
use crate::fleet::rollout::once::OnceOutcome;
use crate::fleet::rollout::register::Register;

/// What never breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Invariant {
    Slots,
    Quarantine,
    StepTwice,
    StepFirst,
    Canary,
    Superseded,
    Count,
    Failures,
    Done,
    Groups,
}

impl Invariant {
    pub(super) const ALL: [Invariant; 10] = [
        Invariant::Slots,
        Invariant::Quarantine,
        Invariant::StepTwice,
        Invariant::StepFirst,
        Invariant::Canary,
        Invariant::Superseded,
        Invariant::Count,
        Invariant::Failures,
        Invariant::Done,
        Invariant::Groups,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Invariant::Slots => "I1: no more serving hosts are out than there are slots",
            Invariant::Quarantine => "I2: nobody activates a quarantined sha",
            Invariant::StepTwice => {
                "I3: a step runs on one host, and never after its recorded success"
            }
            Invariant::StepFirst => "I4: nobody activates before the step has succeeded",
            Invariant::Canary => "I5: only canaries activate before they passed",
            Invariant::Superseded => {
                "rule 11: nobody begins, and nothing reopens, a superseded sha"
            }
            Invariant::Count => "rule 8: a sha is quarantined after `max_failures` attempts",
            Invariant::Failures => {
                "rule 4: a bad sha takes out no more hosts than `max_failures` and the slots allow"
            }
            Invariant::Groups => "rule 3: hosts of one group are out at a time",
            Invariant::Done => "rule 10: an entry is done when all hosts have the sha",
        }
    }
}

/// The invariant that a world breaks.
pub(super) fn broken(scenario: &Scenario, world: &World) -> Option<Invariant> {
    let out = |host: &&HostState| host.now.is_out() && !host.is_broken;
    if world.hosts.iter().filter(out).count() > scenario.slots() {
        return Some(Invariant::Slots);
    }
    let groups = world.hosts.iter().enumerate().filter(|(_, host)| out(host));
    let mut groups = groups.filter_map(|(number, _)| scenario.group_of(number));
    let first = groups.next();
    if groups.any(|group| Some(group) != first) {
        return Some(Invariant::Groups);
    }
    if world.hosts.iter().filter(|host| host.now.runs_step).count() > 1 {
        return Some(Invariant::StepTwice);
    }
    if scenario.bounds_failures() && attempts(world) >= scenario.max_failures() + scenario.slots() {
        return Some(Invariant::Failures);
    }
    if reopens(world) {
        return Some(Invariant::Superseded);
    }
    world.violation
}

/// A register that knows the newest manifest has an open entry for another sha.
fn reopens(world: &World) -> bool {
    let register = world.register.as_ref();
    register.is_some_and(|register| {
        register.generation == world.wanted.generation
            && register
                .entries
                .iter()
                .any(|entry| entry.is_open() && !world.wanted.shas.contains(&entry.id.sha))
    })
}

/// What it breaks that a host switches to a sha now.
pub(super) fn broken_by_switch(
    scenario: &Scenario,
    world: &World,
    number: usize,
    sha: &Sha,
) -> Option<Invariant> {
    let host = &world.hosts[number];
    let quarantine = world.quarantines.get(sha);
    if quarantine.is_some_and(|quarantine| quarantine.in_force) && !host.is_excused {
        return Some(Invariant::Quarantine);
    }
    if !world.wanted.shas.contains(sha) && !host.is_unaware {
        return Some(Invariant::Superseded);
    }
    if scenario.has_step && !has_succeeded(world, sha) {
        return Some(Invariant::StepFirst);
    }
    let current = world.register.as_ref().and_then(|found| found.current(sha));
    let serves = world.hosts.iter().any(|host| host.now.serves);
    let may_go = current.is_none_or(|entry| {
        entry.skips_canary
            || entry.was_done
            || entry.is_canary(&scenario.node_name(number))
            || (!entry.canaries.is_empty() && entry.canaries_passed())
    });
    let passed_unproven = current.is_some_and(|entry| {
        entry.canaries.iter().any(|canary| {
            let is_it = |other: usize| scenario.node_name(other) == canary.node;
            let other = (0..world.hosts.len()).find(|other| is_it(*other));
            let disk = other.map(|other| &world.hosts[other].now);
            canary.passed && disk.is_some_and(|disk| disk.previous.as_ref() != Some(sha))
        })
    });
    let has_canary = scenario.policy_of(sha).canary.is_some() && serves;
    (has_canary && (!may_go || passed_unproven)).then_some(Invariant::Canary)
}

/// What it breaks that the step runs now.
pub(super) fn broken_by_step(world: &World, sha: &Sha) -> Option<Invariant> {
    has_succeeded(world, sha).then_some(Invariant::StepTwice)
}

fn has_succeeded(world: &World, sha: &Sha) -> bool {
    let result = world.once.get(sha);
    result.is_some_and(|result| result.outcome == OnceOutcome::Succeeded)
}

/// What it breaks that the sha is quarantined now.
pub(super) fn broken_by_quarantine(scenario: &Scenario, world: &World) -> Option<Invariant> {
    (attempts(world) < scenario.max_failures()).then_some(Invariant::Count)
}

/// How often the sha failed on a host.
fn attempts(world: &World) -> usize {
    let attempts = world.hosts.iter().map(|host| host.now.journal.attempts);
    attempts
        .map(|attempts| usize::try_from(attempts).unwrap_or(usize::MAX))
        .sum()
}

/// What it breaks that this register replaces the one in the store.
pub(super) fn broken_by_register(
    scenario: &Scenario,
    world: &World,
    after: &Register,
) -> Option<Invariant> {
    let was_done = |sha: &Sha| {
        let before = world
            .register
            .as_ref()
            .and_then(|before| before.current(sha));
        before.is_some_and(|entry| !entry.is_open())
    };
    let mut ended = after
        .entries
        .iter()
        .filter(|entry| entry.end == Some(EntryEnd::Done) && !was_done(&entry.id.sha));
    let lacks = |sha: &Sha| {
        let mut hosts = world.hosts.iter().enumerate();
        hosts.any(|(number, host)| {
            let has_it = host.now.active.as_ref() == Some(sha) && host.now.is_proven;
            !host.is_gone && !world.ignored.contains(&number) && !has_it
        })
    };
    // Two machines with one name have one mark.
    let is_wrong = !scenario.has_twins && ended.any(|entry| lacks(&entry.id.sha));
    is_wrong.then_some(Invariant::Done)
}

/// The rollout has ended as it should: every host is proven at the newest sha, and no slot is held.
pub(super) fn is_finished(world: &World) -> bool {
    let sha = &world.wanted.shas[0];
    let entry = world.register.as_ref().and_then(|found| found.current(sha));
    let has_it = |host: &HostState| {
        host.now.active.as_ref() == Some(sha) && host.now.is_proven && !host.now.is_drained
    };
    let is_free = |number: usize| {
        let slot = world.slots[number].as_ref();
        let holder = slot.and_then(|slot| slot.holder.as_ref());
        // Nobody misses the slot of a host that never comes back.
        holder.is_none_or(|holder| {
            let number: Option<usize> = holder.member.machine.parse().ok();
            number.is_some_and(|number| world.hosts[number].is_gone)
        })
    };
    let ignored = |number: usize| world.ignored.contains(&number);
    entry.is_some_and(|entry| entry.was_done)
        && world
            .hosts
            .iter()
            .enumerate()
            .all(|(number, host)| host.is_gone || ignored(number) || has_it(host))
        && (0..world.slots.len()).all(is_free)
}
