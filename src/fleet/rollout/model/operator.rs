//! What operators do in the model, by the code that their commands run.

use jiff::Timestamp;

use super::client::{Progress, replay};
use super::pass::STEP;
use super::scenario::NODES;
use super::world::{Disk, OperatorState, World};
use crate::fleet::rollout::entry::HaltCause;
use crate::fleet::rollout::identity::Nonce;
use crate::fleet::rollout::once::{OnceClaim, OnceOutcome};
use crate::fleet::rollout::operator::{Operator, OperatorError};
use crate::fleet::rollout::register::{Register, WantedShas};

/// An act of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Act {
    BreakSlot(u32),
    /// The cause of the failures is gone, and the sha may be tried again.
    Lift,
    SkipCanary,
    Resume,
    /// By number of the host.
    Ignore(usize),
    ResolveStep(OnceOutcome),
    Reset,
    /// Not a command: what the hosts depend on works again.
    RepairEnvironment,
}

/// Runs the act of the operator up to its next call.
pub(super) fn run(
    act: Act,
    operator: &OperatorState,
    fresh: u64,
) -> Progress<Result<(), OperatorError>> {
    let sha = &operator.sha;
    let shown = (operator.shown_nonce != Nonce(0)).then_some(operator.shown_nonce);
    replay(&operator.process, &Disk::default(), fresh, |client| {
        let by_hand = Operator {
            store: client,
            environment: "production",
            app: "shop",
            name: "admin",
            reason: "",
            now: Timestamp::UNIX_EPOCH,
            sign: None,
        };
        match act {
            Act::BreakSlot(number) => {
                by_hand.break_slot(number, operator.shown_nonce, Some(OnceOutcome::Retry))
            }
            Act::Lift => by_hand.lift_quarantine(sha),
            Act::SkipCanary => by_hand.skip_canary(sha),
            Act::Resume => by_hand.resume(sha),
            Act::Ignore(number) => by_hand.ignore(sha, NODES[number]),
            Act::ResolveStep(outcome) => by_hand.resolve_step(sha, STEP, outcome, shown),
            Act::Reset => by_hand.reset(&WantedShas {
                generation: operator.generation,
                shas: vec![sha.clone()],
                hold: None,
            }),
            Act::RepairEnvironment => Ok(()),
        }
    })
}

/// Whether an operator has a reason for an act.
pub(super) fn is_due(act: Act, world: &World) -> bool {
    let current = world
        .register
        .as_ref()
        .and_then(|register: &Register| register.current(&world.wanted.shas[0]));
    let is_halted = |cause| {
        let halt = current.and_then(|entry| entry.halt.as_ref());
        halt.is_some_and(|halt| halt.cause == cause)
    };
    match act {
        Act::BreakSlot(number) => {
            let slot = world.slots[number as usize].as_ref();
            slot.is_some_and(|slot| slot.holder.is_some())
        }
        Act::Lift => {
            let quarantine = world.quarantines.get(&world.wanted.shas[0]);
            quarantine.is_some_and(|quarantine| quarantine.in_force)
                || is_halted(HaltCause::Quarantined)
                || world
                    .hosts
                    .iter()
                    .any(|host| host.now.journal.failed_here.is_some())
        }
        Act::SkipCanary => current.is_some_and(|entry| entry.is_open() && entry.count.is_some()),
        Act::Resume => is_halted(HaltCause::Environment),
        Act::Ignore(_) => current.is_some_and(|entry| entry.is_open()),
        Act::ResolveStep(_) => {
            let claim = world
                .register
                .as_ref()
                .and_then(|register| register.claim.as_ref());
            // While its claimer is at work, there is nothing to settle.
            let is_idle = |claim: &OnceClaim| {
                let number: Option<usize> = claim.member.machine.parse().ok();
                number.is_some_and(|number| world.hosts[number].process.call.is_none())
            };
            claim.is_some_and(is_idle) || claim.is_none() && is_halted(HaltCause::OnceStep)
        }
        Act::Reset => is_register_ahead(world),
        Act::RepairEnvironment => world.is_environment_broken,
    }
}

/// The manifest is older than one that hosts have acted on.
pub(super) fn is_register_ahead(world: &World) -> bool {
    let register = world.register.as_ref();
    register.is_some_and(|register| register.generation > world.wanted.generation)
}
