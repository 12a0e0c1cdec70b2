//! I6 and I7: what becomes of the worlds in which the rollout does not end by itself.
//!
//! With everyone alive, the store answering and the sha good, there are none. In all others some host reports an
//! obstacle that names a command, and after that command the rollout ends.

use std::collections::HashSet;

use super::checker::State;
use super::graph::Graph;
use super::invariant::is_finished;
use super::operator::{Act, is_register_ahead};
use super::scenario::{Scenario, new_sha};
use super::step::{self, Step};
use super::world::{Faults, World};
use crate::fleet::rollout::entry::HaltCause;
use crate::fleet::rollout::once::OnceOutcome;
use crate::fleet::rollout::remedy::Command;

/// Commands that an operator gives one after the other at most.
const MAX_COMMANDS: usize = 4;

/// Calls of a pass at most.
const MAX_CALLS: usize = 200;

/// Ends that are looked at; the others are of the same kinds.
const MAX_ENDS: usize = 200;

/// Checks all ends of what was explored. Returns how many different ones there are.
pub(super) fn check_ends(scenario: &Scenario, graph: &Graph) -> Result<usize, (String, Vec<Step>)> {
    let ends = graph.ends();
    if let Some(circle) = ends.circle {
        let path = graph.path_to(circle);
        return Err(("I7: all hosts go round in a circle".into(), path));
    }
    let mut known = HashSet::new();
    let stride = (ends.dead.len() / MAX_ENDS).max(1);
    for node in ends.dead.iter().step_by(stride) {
        let path = graph.path_to(*node);
        let world = at_rest(world_at(scenario, &path));
        if !has_cause(scenario, &world) {
            return Err(("I7: the rollout does not end".into(), path));
        }
        if known.insert(State::new(world.clone()).print()) {
            recover(scenario, world, MAX_COMMANDS).map_err(|why| (format!("I6: {why}"), path))?;
        }
    }
    Ok(known.len())
}

pub(super) fn world_at(scenario: &Scenario, path: &[Step]) -> World {
    let first = scenario.first_world();
    path.iter()
        .fold(first, |world, step| step::after(scenario, &world, *step))
}

/// No more faults, and what is late never arrives.
fn at_rest(world: World) -> World {
    let mut world = world;
    world.faults = Faults::default();
    world.operator.left.clear();
    world.late_writes.clear();
    world
}

/// Whether something is wrong that a rollout cannot mend itself.
fn has_cause(scenario: &Scenario, world: &World) -> bool {
    let is_new = world.wanted.shas[0] == new_sha();
    let current = world.register.as_ref();
    let current = current.and_then(|found| found.current(&world.wanted.shas[0]));
    let halt = current
        .and_then(|entry| entry.halt.as_ref())
        .map(|halt| halt.cause);
    let is_halted = matches!(
        halt,
        Some(HaltCause::Environment | HaltCause::OnceStep | HaltCause::NoCanary)
    );
    let mut results = world.once.values();
    world.hosts.iter().any(|host| host.is_gone)
        || (world.bad_hosts != 0 && is_new)
        // A sha may have failed for that, and nobody can know.
        || scenario.is_environment_broken
        || (scenario.policy.canary.is_some() && !scenario.matches_canary)
        || is_halted
        || is_register_ahead(world)
        || results.any(|result| result.outcome == OnceOutcome::Failed)
}

/// Follows what the hosts report until the rollout ends.
fn recover(scenario: &Scenario, mut world: World, left: usize) -> Result<(), String> {
    let commands = run_rounds(scenario, &mut world);
    if is_finished(&world) {
        return Ok(());
    }
    if commands.is_empty() {
        return Err("nobody names a command that mends it".into());
    }
    if left == 0 {
        return Err(format!("these commands do not mend it: {commands:?}"));
    }
    let mut failed = Err(String::new());
    for command in commands {
        let mut world = world.clone();
        carry_out(scenario, &mut world, &command);
        failed = recover(scenario, world, left - 1);
        if failed.is_ok() {
            return Ok(());
        }
    }
    failed
}

/// Lets the hosts run one pass after the other until nothing changes any more. Returns the commands that they report.
fn run_rounds(scenario: &Scenario, world: &mut World) -> Vec<Command> {
    let mut known = HashSet::new();
    loop {
        let mut commands = Vec::new();
        for number in (0..world.hosts.len())
            .filter(|number| !world.hosts[*number].is_gone)
            .collect::<Vec<_>>()
        {
            let mut reported = None;
            for _ in 0..MAX_CALLS {
                reported = step::advance(scenario, world, number).or(reported);
                step::settle(world);
                if world.hosts[number].process.call.is_none() {
                    break;
                }
            }
            let sha = &world.wanted.shas[0];
            let remedy = reported.map(|obstacle| obstacle.remedy(sha));
            if let Some(command) = remedy.and_then(|remedy| remedy.command)
                && !commands.contains(&command)
            {
                commands.push(command);
            }
        }
        if is_finished(world) || !known.insert(State::new(world.clone()).print()) {
            return commands;
        }
    }
}

/// An operator mends what the report says, and gives the command.
fn carry_out(scenario: &Scenario, world: &mut World, command: &Command) {
    let (act, sha) = match command {
        Command::Publish | Command::Rollback => {
            step::publish(world);
            return;
        }
        Command::LiftQuarantine(sha) => (Act::Lift, Some(sha)),
        Command::Resume => {
            world.is_environment_broken = false;
            (Act::Resume, None)
        }
        Command::SkipCanary => (Act::SkipCanary, None),
        Command::BreakSlot(held) => (Act::BreakSlot(held.number), None),
        Command::RetryStep { sha, .. } => (Act::ResolveStep(OnceOutcome::Retry), Some(sha)),
        Command::Reset => (Act::Reset, None),
        Command::SkipAfter | Command::LiftHold(_) => return,
    };
    step::begin_act(world, act);
    if let Some(sha) = sha {
        world.operator.sha = sha.clone();
    }
    for _ in 0..MAX_CALLS {
        step::operate(scenario, world);
        step::settle(world);
        if world.operator.act.is_none() {
            return;
        }
    }
}
