//! The store of the model, and what a call does to the world.

use super::call::{Call, LocalStep, Reply, Write};
use super::invariant::{self, Invariant};
use super::names::etag;
use super::scenario::{Scenario, new_sha};
use super::world::World;
use crate::fleet::rollout::identity::Nonce;
use crate::fleet::rollout::store::{AppHost, Swap, Versioned};
use crate::ports::store::Etag;

fn versioned<T: Clone>(object: Option<&T>, nonce: impl Fn(&T) -> Nonce) -> Option<Versioned<T>> {
    object.map(|object| Versioned {
        object: object.clone(),
        etag: etag(nonce(object)),
    })
}

/// Reads what a call reads. `None`: it is no read.
pub(super) fn read(scenario: &Scenario, world: &World, call: &Call) -> Option<Reply> {
    Some(match call {
        Call::Register => {
            Reply::Register(versioned(world.register.as_ref(), |object| object.nonce))
        }
        Call::Slot(slot) => {
            let slot = world.slots[*slot as usize].as_ref();
            Reply::Slot(versioned(slot, |object| object.nonce))
        }
        Call::Quarantine(sha) => {
            let found = world.quarantines.get(sha);
            Reply::Quarantine(versioned(found, |object| object.nonce))
        }
        Call::Once(sha, _) => Reply::Once(versioned(world.once.get(sha), |object| object.nonce)),
        Call::Marks(sha) => {
            let marks = world.marks.iter().filter(|(of, _)| of == sha);
            Reply::Marks(marks.map(|(_, node)| node.clone()).collect())
        }
        Call::Hosts => Reply::Hosts(hosts(scenario, world)),
        Call::Wanted => Reply::Wanted(world.wanted.clone()),
        Call::Write(_) | Call::Clock | Call::Local(_) => return None,
    })
}

/// Carries out the call of a host.
pub(super) fn perform(scenario: &Scenario, world: &mut World, number: usize, call: &Call) -> Reply {
    match call {
        Call::Quarantine(_) => world.hosts[number].is_excused = false,
        Call::Wanted => world.hosts[number].is_unaware = false,
        _ => {}
    }
    match call {
        Call::Write(write) => apply_write(scenario, world, write),
        Call::Clock => Reply::IsLate(false),
        Call::Local(step) => perform_locally(scenario, world, number, *step),
        read_call => read(scenario, world, read_call).expect("all other calls are reads"),
    }
}

fn hosts(scenario: &Scenario, world: &World) -> Vec<AppHost> {
    let hosts = world.hosts.iter().enumerate();
    let mut hosts: Vec<AppHost> = hosts
        .map(|(number, host)| AppHost {
            node: scenario.node_name(number),
            is_live: !host.is_gone,
            serves: host.now.serves,
            matches_canary: scenario.matches_canary,
            wanted: world.wanted.shas.first().cloned(),
        })
        .collect();
    // A record has one name.
    hosts.dedup_by(|one, other| one.node == other.node);
    hosts
}

fn swap<T: Clone>(
    current: &mut Option<T>,
    known: &Option<Etag>,
    new: &T,
    nonce: impl Fn(&T) -> Nonce,
) -> Reply {
    if current.as_ref().map(|object| etag(nonce(object))) != *known {
        return Reply::Swapped(Swap::Conflict);
    }
    *current = Some(new.clone());
    Reply::Swapped(Swap::Written)
}

/// Writes if the condition holds.
pub(super) fn apply_write(scenario: &Scenario, world: &mut World, write: &Write) -> Reply {
    match write {
        Write::Register(object, known) => {
            let broken = invariant::broken_by_register(scenario, world, object);
            let reply = swap(&mut world.register, known, object, |object| object.nonce);
            if reply == Reply::Swapped(Swap::Written) {
                broken.inspect(|broken| violate(world, *broken));
            }
            reply
        }
        Write::Slot(number, object, known) => {
            let slot = &mut world.slots[*number as usize];
            swap(slot, known, object, |object| object.nonce)
        }
        Write::Quarantine(sha, object, known) => {
            let mut current = world.quarantines.get(sha).cloned();
            let reply = swap(&mut current, known, object, |object| object.nonce);
            if reply == Reply::Swapped(Swap::Written) {
                world.quarantines.insert(sha.clone(), object.clone());
                if object.in_force {
                    excuse_holders(world);
                    let broken = invariant::broken_by_quarantine(scenario, world);
                    broken.inspect(|broken| violate(world, *broken));
                }
            }
            reply
        }
        Write::Once(sha, _, object, known) => {
            let mut current = world.once.get(sha).cloned();
            let reply = swap(&mut current, known, object, |object| object.nonce);
            if reply == Reply::Swapped(Swap::Written) {
                world.once.insert(sha.clone(), object.clone());
            }
            reply
        }
        Write::Mark(sha, node) => {
            world.marks.insert((sha.clone(), node.clone()));
            Reply::Done
        }
        Write::Unmark(sha, node) => {
            world.marks.remove(&(sha.clone(), node.clone()));
            Reply::Done
        }
    }
}

fn violate(world: &mut World, broken: Invariant) {
    world.violation.get_or_insert(broken);
}

/// Whether a late write finds the version that it replaces. If not, it never will: no version comes back.
pub(super) fn may_apply(world: &World, write: &Write) -> bool {
    let (current, known) = match write {
        Write::Register(_, known) => (world.register.as_ref().map(|object| object.nonce), known),
        Write::Slot(number, _, known) => {
            let slot = world.slots[*number as usize].as_ref();
            (slot.map(|object| object.nonce), known)
        }
        Write::Quarantine(sha, _, known) => {
            (world.quarantines.get(sha).map(|object| object.nonce), known)
        }
        Write::Once(sha, _, _, known) => (world.once.get(sha).map(|object| object.nonce), known),
        Write::Mark(..) | Write::Unmark(..) => return true,
    };
    current.map(etag) == *known
}

/// Whoever holds a slot when a sha is quarantined may be past its last assessment.
fn excuse_holders(world: &mut World) {
    let held: Vec<Nonce> = world
        .slots
        .iter()
        .flatten()
        .filter(|slot| slot.holder.is_some())
        .map(|slot| slot.nonce)
        .collect();
    for host in &mut world.hosts {
        let own = host.now.journal.slot.as_ref();
        let holds = own.is_some_and(|own| held.contains(&own.nonce));
        host.is_excused = holds || !host.now.serves;
    }
}

fn perform_locally(
    scenario: &Scenario,
    world: &mut World,
    number: usize,
    step: LocalStep,
) -> Reply {
    let host = &world.hosts[number];
    let sha = host.wanted.shas[0].clone();
    match step {
        LocalStep::Switch => {
            let broken = invariant::broken_by_switch(scenario, world, number, &sha);
            broken.inspect(|broken| violate(world, *broken));
            Reply::Done
        }
        LocalStep::RunStep => {
            let broken = invariant::broken_by_step(world, &sha);
            broken.inspect(|broken| violate(world, *broken));
            Reply::Works(true)
        }
        LocalStep::Gate => {
            let is_bad = world.bad_hosts >> number & 1 == 1;
            let is_new = host.now.active == Some(new_sha());
            Reply::Works(!(world.is_environment_broken || is_bad && is_new))
        }
        LocalStep::Drain | LocalStep::Restore => Reply::Done,
    }
}
