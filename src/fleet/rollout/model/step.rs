//! The steps of the model: what can happen next, and what it does.

use super::call::{Call, LocalStep, Reply, Write};
use super::invariant::Invariant;
use super::names::rename;
use super::operator::{self, Act};
use super::pass;
use super::scenario::{Grain, Scenario, new_sha, next_sha};
use super::store::{apply_write, may_apply, perform, read};
use super::world::{HostState, Process, Stage, World};
use crate::fleet::rollout::decide::Obstacle;
use crate::fleet::rollout::identity::Nonce;
use crate::fleet::rollout::mutation::{Mutation, is_active};
use crate::fleet::rollout::store::Swap;

/// Something that can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// The host's call is carried out; if it runs no pass, one begins.
    Advance(usize),
    /// The same with a fault.
    Fail(usize, Fault),
    /// A late write arrives.
    Arrive(usize),
    /// Another sha is published.
    Publish,
    /// An operator begins a command.
    Begin(Act),
    /// The operator's call is carried out.
    Operate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Fault {
    /// The host dies, and begins again at its next step.
    Crash,
    /// The write takes effect, and the host dies before it knows.
    CrashAfterWrite,
    /// The host never comes back.
    Departure,
    /// The write takes effect, and its answer is lost.
    LostReply,
    /// The write has no answer, and may arrive later.
    LateWrite,
    /// The write takes effect, and may arrive again.
    Duplicate,
    /// The host stands still.
    Pause,
    /// The step that one host runs for all fails.
    StepFailure,
}

/// What can happen in a world.
pub(super) fn steps(scenario: &Scenario, world: &World, steps: &mut Vec<Step>) {
    if world.violation.is_some() {
        return;
    }
    let live = |number: &usize| !world.hosts[*number].is_gone;
    let urgent = (0..world.hosts.len())
        .filter(live)
        .find(|number| is_urgent(scenario, world, *number));
    for number in (0..world.hosts.len()).filter(live) {
        if urgent.is_none_or(|urgent| urgent == number) {
            steps.push(Step::Advance(number));
            let faults = faults(world, &world.hosts[number]);
            steps.extend(faults.map(|fault| Step::Fail(number, fault)));
        }
    }
    if urgent.is_some() {
        return;
    }
    steps.extend((0..world.late_writes.len()).map(Step::Arrive));
    if world.faults.publishes > 0 {
        steps.push(Step::Publish);
    }
    match world.operator.act {
        Some(_) => steps.push(Step::Operate),
        None => {
            let acts = world.operator.left.iter().copied();
            steps.extend(
                acts.filter(|act| operator::is_due(*act, world))
                    .map(Step::Begin),
            );
        }
    }
}

/// The faults that may happen to the next step of a host.
fn faults(world: &World, host: &HostState) -> impl Iterator<Item = Fault> {
    let left = &world.faults;
    let call = &host.process.call;
    let is_write = matches!(call, Some(Call::Write(_)));
    // A mark has no version: one that arrives after its host has moved on counts for a later rollout of its sha.
    let is_mark = matches!(call, Some(Call::Write(Write::Mark(..) | Write::Unmark(..))));
    let is_step = *call == Some(Call::Local(LocalStep::RunStep));
    [
        (Fault::Crash, left.crashes, call.is_some()),
        (Fault::CrashAfterWrite, left.crashes, is_write),
        (Fault::Departure, left.departures, call.is_some()),
        (Fault::LostReply, left.lost_replies, is_write),
        (Fault::LateWrite, left.late_writes, is_write && !is_mark),
        (Fault::Duplicate, left.duplicates, is_write && !is_mark),
        (Fault::Pause, left.pauses, *call == Some(Call::Clock)),
        (Fault::StepFailure, left.step_failures, is_step),
    ]
    .into_iter()
    .filter(|(_, left, applies)| *left > 0 && *applies)
    .map(|(fault, ..)| fault)
}

/// Whether no step of another host makes a difference to the next one of this host, nor that one to others: the order
/// of the two does not matter then, so only one order is explored.
fn is_urgent(scenario: &Scenario, world: &World, number: usize) -> bool {
    let process = &world.hosts[number].process;
    let Some(call) = &process.call else {
        return false;
    };
    let is_read = !matches!(call, Call::Write(_) | Call::Clock | Call::Local(_));
    if scenario.grain == Grain::Reads && is_read && !process.log.is_empty() {
        return true;
    }
    match call {
        Call::Wanted => world.faults.publishes == 0,
        Call::Hosts => !scenario.can_change_hosts(),
        Call::Quarantine(_) => !scenario.can_quarantine(),
        Call::Clock | Call::Local(LocalStep::Restore) => true,
        Call::Write(write) => {
            scenario.grain != Grain::Call && follows_from_last_read(process.log.last(), write)
        }
        _ => false,
    }
}

/// Whether a write replaces what the process has just read.
fn follows_from_last_read(last: Option<&Reply>, write: &Write) -> bool {
    let known = match (last, write) {
        (Some(Reply::Register(found)), Write::Register(_, known)) => {
            (found.as_ref().map(|found| &found.etag), known)
        }
        (Some(Reply::Slot(found)), Write::Slot(_, _, known)) => {
            (found.as_ref().map(|found| &found.etag), known)
        }
        (Some(Reply::Quarantine(found)), Write::Quarantine(_, _, known)) => {
            (found.as_ref().map(|found| &found.etag), known)
        }
        (Some(Reply::Once(found)), Write::Once(_, _, _, known)) => {
            (found.as_ref().map(|found| &found.etag), known)
        }
        _ => return false,
    };
    known.0 == known.1.as_ref()
}

/// The world after a step.
pub(super) fn after(scenario: &Scenario, before: &World, step: Step) -> World {
    let mut world = before.clone();
    match step {
        Step::Advance(number) => {
            advance(scenario, &mut world, number);
        }
        Step::Fail(number, fault) => fail(scenario, &mut world, number, fault),
        Step::Arrive(number) => {
            let write = world.late_writes.remove(number);
            let before = world.violation;
            apply_write(scenario, &mut world, &write);
            // All hosts had the sha when the write was made.
            if world.violation == Some(Invariant::Done) {
                world.violation = before;
            }
        }
        Step::Publish => publish(&mut world),
        Step::Begin(act) => begin_act(&mut world, act),
        Step::Operate => operate(scenario, &mut world),
    }
    settle(&mut world);
    world
}

/// Forgets what makes no difference any more.
pub(super) fn settle(world: &mut World) {
    // The versions of free slots come back if they all have the same bytes.
    if !is_active(Mutation::FreeSlotWithoutNonce) {
        let late = std::mem::take(&mut world.late_writes);
        let late = late.into_iter().filter(|write| may_apply(world, write));
        world.late_writes = late.collect();
    }
    rename(world);
}

/// Carries out the next call of a host. Returns what its pass reported if the pass is over.
pub(super) fn advance(scenario: &Scenario, world: &mut World, number: usize) -> Option<Obstacle> {
    if world.hosts[number].process.call.is_none() {
        world.hosts[number].wanted = world.wanted.clone();
        world.hosts[number].is_unaware = false;
        let reported = proceed(scenario, world, number);
        if world.hosts[number].process.call.is_none() {
            return reported;
        }
    }
    let call = world.hosts[number].process.call.clone();
    let reply = perform(scenario, world, number, &call?);
    answer(scenario, world, number, reply)
}

fn answer(scenario: &Scenario, world: &mut World, number: usize, reply: Reply) -> Option<Obstacle> {
    world.hosts[number].process.log.push(reply);
    proceed(scenario, world, number)
}

/// Runs the pass of a host up to its next call.
fn proceed(scenario: &Scenario, world: &mut World, number: usize) -> Option<Obstacle> {
    let progress = pass::run(scenario, number, &world.hosts[number], world.fresh);
    let made = progress.minted.iter().map(|nonce| nonce.0 + 1).max();
    world.fresh = world.fresh.max(made.unwrap_or(0));
    let host = &mut world.hosts[number];
    host.now = progress.disk;
    host.process.call = progress.call;
    host.process.minted = progress.minted;
    if host.process.call.is_some() {
        return progress.obstacle;
    }
    let next = progress.result.flatten();
    end_stage(host, next.unwrap_or(Stage::Begin));
    match next {
        Some(_) => proceed(scenario, world, number).or(progress.obstacle),
        None => progress.obstacle,
    }
}

fn end_stage(host: &mut HostState, next: Stage) {
    host.process = Process::default();
    host.stage = next;
    if next == Stage::Begin {
        host.now.runs_step = false;
        host.is_excused = false;
        host.is_unaware = false;
        host.is_broken &= host.now.is_out();
    }
    host.begin = host.now.clone();
}

fn fail(scenario: &Scenario, world: &mut World, number: usize, fault: Fault) {
    let faults = &mut world.faults;
    let left = match fault {
        Fault::Crash | Fault::CrashAfterWrite => &mut faults.crashes,
        Fault::Departure => &mut faults.departures,
        Fault::LostReply => &mut faults.lost_replies,
        Fault::LateWrite => &mut faults.late_writes,
        Fault::Duplicate => &mut faults.duplicates,
        Fault::Pause => &mut faults.pauses,
        Fault::StepFailure => &mut faults.step_failures,
    };
    *left -= 1;
    let call = world.hosts[number].process.call.clone();
    if matches!(
        fault,
        Fault::Crash | Fault::CrashAfterWrite | Fault::Departure
    ) {
        if let (Fault::CrashAfterWrite, Some(Call::Write(write))) = (fault, call) {
            apply_write(scenario, world, &write);
        }
        end_stage(&mut world.hosts[number], Stage::Begin);
        world.hosts[number].is_gone = fault == Fault::Departure;
        return;
    }
    let reply = match (fault, call) {
        (Fault::Pause, _) => {
            // What it read before is no excuse any more.
            world.hosts[number].is_excused = false;
            world.hosts[number].is_unaware = false;
            Reply::IsLate(true)
        }
        (Fault::StepFailure, _) => Reply::Works(false),
        (Fault::LostReply, Some(Call::Write(write))) => {
            apply_write(scenario, world, &write);
            Reply::Lost
        }
        (Fault::LateWrite, Some(Call::Write(write))) => {
            world.late_writes.push(write);
            Reply::Lost
        }
        (Fault::Duplicate, Some(Call::Write(write))) => {
            let reply = apply_write(scenario, world, &write);
            world.late_writes.push(write);
            reply
        }
        _ => Reply::Lost,
    };
    answer(scenario, world, number, reply);
}

/// Publishes the next sha, and after that the new one again.
pub(super) fn publish(world: &mut World) {
    world.faults.publishes = world.faults.publishes.saturating_sub(1);
    world.wanted.generation += 1;
    let is_next = world.wanted.shas[0] == next_sha();
    world.wanted.shas = vec![if is_next { new_sha() } else { next_sha() }];
    for host in &mut world.hosts {
        host.is_unaware = host.process.call.is_some();
    }
}

/// An operator begins a command.
pub(super) fn begin_act(world: &mut World, act: Act) {
    world.operator.left.retain(|left| *left != act);
    world.operator.sha = world.wanted.shas[0].clone();
    world.operator.generation = world.wanted.generation;
    match act {
        Act::RepairEnvironment => {
            world.is_environment_broken = false;
            return;
        }
        Act::Lift => world.bad_hosts = 0,
        Act::Ignore(number) => {
            world.ignored.insert(number);
        }
        Act::BreakSlot(number) => {
            let slot = world.slots[number as usize].as_ref();
            world.operator.shown_nonce = slot.map_or(Nonce(0), |slot| slot.nonce);
        }
        Act::ResolveStep(_) => {
            let claim = world
                .register
                .as_ref()
                .and_then(|register| register.claim.as_ref());
            world.operator.shown_nonce = claim.map_or(Nonce(0), |claim| claim.claim);
        }
        Act::SkipCanary | Act::Resume | Act::Reset => {}
    }
    world.operator.act = Some(act);
}

/// Carries out the next call of the operator, and ends the command with the last.
pub(super) fn operate(scenario: &Scenario, world: &mut World) {
    let Some(act) = world.operator.act else {
        return;
    };
    if let Some(call) = world.operator.process.call.clone() {
        let reply = match &call {
            Call::Write(write) => {
                let reply = apply_write(scenario, world, write);
                if reply == Reply::Swapped(Swap::Written) && matches!(write, Write::Slot(..)) {
                    except_holder(world);
                }
                reply
            }
            read_call => read(scenario, world, read_call).unwrap_or(Reply::Lost),
        };
        world.operator.process.log.push(reply);
    }
    let progress = operator::run(act, &world.operator, world.fresh);
    let made = progress.minted.iter().map(|nonce| nonce.0 + 1).max();
    world.fresh = world.fresh.max(made.unwrap_or(0));
    world.operator.process.minted = progress.minted;
    world.operator.process.call = progress.call;
    if progress.result.is_some() {
        world.operator.act = None;
        world.operator.process = Process::default();
        world.operator.shown_nonce = Nonce(0);
    }
}

/// I1 excepts the host whose slot an operator broke: a person said so.
fn except_holder(world: &mut World) {
    let shown = world.operator.shown_nonce;
    for host in &mut world.hosts {
        let own = host.now.journal.slot.as_ref();
        host.is_broken |= own.is_some_and(|own| own.nonce == shown);
    }
}
