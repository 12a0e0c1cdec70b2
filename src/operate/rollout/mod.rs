//! The rollouts of an app, for operators and CI.

use jiff::Timestamp;

use self::blocker::{hosts_at_work, show_blocker};
use self::progress::add_progress;
use super::CommandError;
use super::manifest::find_environment;
use crate::desired::{Hold, RolloutPolicy, Sha};
use crate::exit::Exit;
use crate::fleet;
pub(crate) use crate::fleet::rollout::OnceOutcome;
use crate::fleet::rollout::{
    EntryState, Nonce, Operator, OperatorError, RolloutError, RolloutStore, RolloutView, SignText,
    StoreObjects, WantedShas, rollout_summary, rollout_view,
};
use crate::problem::{Problem, nearest};

mod bake;
mod blocker;
mod forget;
mod progress;
mod quarantines;
mod restart;
mod service;
mod target;
mod unsent;

pub(crate) use self::forget::NodeRelease;
pub(crate) use self::quarantines::{QuarantinedApp, list_quarantines};
pub(crate) use self::restart::request_restart;
use self::service::{is_service, observe_service};
pub(crate) use self::target::RolloutTarget;
use self::target::{check_app, recount};

/// The rollout of the wanted sha now. A hold that is in force is a part of it; `now` is the operator's clock, for want of
/// the store's.
pub(crate) fn observe_rollout(
    target: &RolloutTarget<'_>,
    now: Timestamp,
) -> Result<RolloutView, CommandError> {
    if is_service(target.app) {
        return observe_service(target, target.store.server_time().unwrap_or(now));
    }
    let objects = target.objects();
    let manifest = objects.manifest()?;
    let now = target.store.server_time().unwrap_or(now);
    let (environment, app) = (target.environment, target.app);
    let instead =
        format!("`trueup fleet --env {environment} --app {app}` shows where its hosts are");
    let (hold, policy) = check_app(target, &manifest, &instead, now)?;
    let mut view = rollout_view(&objects, target.environment, target.app, &policy.after)?;
    view.bakes = bake::bakes(target, &policy, &view)?;
    if view.outcome == Exit::Pending && view.is_stuck_in_local_failures() {
        view.at_work = hosts_at_work(target, &view)?;
        if view.at_work.is_empty() {
            view.set_stuck();
        }
    }
    let blocks = |hold: &Hold| view.wanted.as_ref().is_some_and(|sha| hold.blocks(sha));
    if hold.as_ref().is_some_and(blocks) && view.outcome == Exit::Pending {
        view.outcome = Exit::Waiting;
        let why = "waits for the end of the hold";
        view.waits_for = Some(format!(
            "{why}; `trueup unhold {environment} {app}` ends it"
        ));
    }
    view.hold = hold.as_ref().map(Hold::description);
    let entry = manifest.environments.get(environment);
    let entry = entry.and_then(|known| known.own_entry(app)?.ok());
    view.notes = entry.map_or(Vec::new(), |entry| entry.notes.clone());
    // No hold keeps hosts from that.
    restart::add_restart(&mut view, &objects, &manifest)?;
    if view.waits_for.is_none() && view.outcome == Exit::Pending {
        show_blocker(target, &policy, now, &mut view)?;
    }
    add_progress(target, &policy, &mut view)?;
    let is_over = matches!(view.state, Some(EntryState::Done | EntryState::Halted));
    if let Some(settings) = manifest.environments.get(environment).filter(|_| is_over) {
        let generation = manifest.generation_of(environment);
        view.unsent = unsent::unsent_notices(target, settings, generation, now)?;
    }
    Ok(view)
}

/// The rollout of an app without its slots, which has this policy.
pub(crate) fn summarize_rollout(
    target: &RolloutTarget<'_>,
    policy: &RolloutPolicy,
) -> Result<RolloutView, RolloutError> {
    rollout_summary(
        &target.objects(),
        target.environment,
        target.app,
        &policy.after,
    )
}

/// What an operator does to a rollout.
#[derive(Debug, Clone)]
pub(crate) enum Intervention {
    Resume,
    SkipCanary,
    SkipAfter,
    BreakSlot {
        number: u32,
        even_if_alive: bool,
        /// How the step ended that the holder runs for all.
        step: Option<OnceOutcome>,
    },
    Ignore {
        node: String,
    },
    ResolveStep {
        step: String,
        outcome: OnceOutcome,
    },
    LiftQuarantine,
    Reset,
}

/// Carries out an intervention. `sha`: `None` stands for the first that the manifest wants. Returns what was done, for
/// people. `sign` signs the record of it.
pub(crate) fn intervene(
    target: &RolloutTarget<'_>,
    sha: Option<Sha>,
    what: &Intervention,
    (name, reason, now): (String, String, Timestamp),
    sign: Option<&SignText<'_>>,
) -> Result<String, CommandError> {
    if is_service(target.app) {
        return free_service(target, what, (name, reason, now), sign);
    }
    let objects = target.objects();
    let wanted = objects.wanted()?;
    let Some(sha) = sha.or_else(|| wanted.shas.first().cloned()) else {
        let (app, environment) = (target.app, target.environment);
        find_environment(&objects.manifest()?, environment, Some(app))?;
        return Err(CommandError::Usage(Problem::new(format!(
            "the manifest wants nothing of {app} in {environment}"
        ))));
    };
    let operator = Operator {
        store: &objects,
        environment: target.environment,
        app: target.app,
        name: &name,
        reason: &reason,
        now,
        sign,
    };
    let short = sha.short();
    let (result, done) = match what {
        Intervention::Resume => (
            operator.resume(&sha),
            format!("the rollout of {short} goes on"),
        ),
        Intervention::SkipCanary => (
            operator.skip_canary(&sha),
            format!("{short} waits for no canary any more"),
        ),
        Intervention::SkipAfter => (
            operator.skip_after(&sha),
            format!("{short} waits for no other app any more"),
        ),
        Intervention::BreakSlot {
            number,
            even_if_alive,
            step,
        } => {
            recount(target, &operator, &sha, None)?;
            let holder = break_slot(target, &operator, *number, *even_if_alive, *step)?;
            (Ok(()), format!("slot {number} of {holder} is free"))
        }
        Intervention::Ignore { node } => (
            operator.ignore(&sha, node),
            format!(
                "the rollout of {short} does not wait for {node}{}",
                nearest_node(target, node)
            ),
        ),
        Intervention::ResolveStep { step, outcome } => (
            operator.resolve_step(&sha, step, *outcome, current_claim(&objects)?),
            match outcome {
                OnceOutcome::Succeeded => format!("`{step}` counts as done for {short}"),
                OnceOutcome::Failed => format!("`{step}` counts as failed for {short}"),
                OnceOutcome::Retry => format!("a host runs `{step}` again for {short}"),
            },
        ),
        Intervention::LiftQuarantine => (
            operator.lift_quarantine(&sha),
            format!("{short} may be activated again"),
        ),
        Intervention::Reset => (
            reset(target, &operator, &wanted),
            "the rollouts follow the manifest again".to_owned(),
        ),
    };
    result.map_err(explain)?;
    Ok(done)
}

/// A note on a node without a record, whose name may be misspelt. It is no error: the machine may be gone for good.
fn nearest_node(target: &RolloutTarget<'_>, node: &str) -> String {
    let known = fleet::node_names(target.store, target.environment).unwrap_or_default();
    let known = known.iter().map(String::as_str);
    match known.clone().any(|name| name == node) {
        true => String::new(),
        false => nearest(node, known).map_or(", which has no record".into(), |near| {
            format!(", which has no record: did you mean `{near}`?")
        }),
    }
}

/// Frees the slot of a service, which has nothing else of a rollout.
fn free_service(
    target: &RolloutTarget<'_>,
    what: &Intervention,
    (name, reason, now): (String, String, Timestamp),
    sign: Option<&SignText<'_>>,
) -> Result<String, CommandError> {
    let operator = Operator {
        store: &target.objects(),
        environment: target.environment,
        app: target.app,
        name: &name,
        reason: &reason,
        now,
        sign,
    };
    match what {
        Intervention::BreakSlot {
            number,
            even_if_alive,
            step,
        } => {
            let holder = break_slot(target, &operator, *number, *even_if_alive, *step)?;
            Ok(format!("slot {number} of {holder} is free"))
        }
        Intervention::Reset => {
            let nothing = WantedShas {
                generation: 0,
                shas: Vec::new(),
                hold: None,
            };
            reset(target, &operator, &nothing).map_err(explain)?;
            Ok(format!("the history of {} begins again", target.app))
        }
        _ => Err(CommandError::Usage(Problem::new(format!(
            "`{}` is a service of the hosts, and only its slot can be broken",
            target.app
        )))),
    }
}

/// The claim to run a step for all that is unresolved now.
fn current_claim(objects: &StoreObjects<'_>) -> Result<Option<Nonce>, CommandError> {
    let register = objects.register()?.map(|found| found.object);
    let claim = register.and_then(|register| register.claim);
    Ok(claim.map(|claim| claim.claim))
}

/// Follows the manifest again; a register that no trueup can use is begun again.
fn reset(
    target: &RolloutTarget<'_>,
    operator: &Operator<'_, StoreObjects<'_>>,
    wanted: &WantedShas,
) -> Result<(), OperatorError> {
    if let Err(RolloutError::Object { key, .. }) = target.objects().register() {
        target.store.delete(&key).map_err(RolloutError::from)?;
    }
    operator.reset(wanted)
}

/// Frees a slot, unless its holder was heard of lately. Returns the holder.
fn break_slot(
    target: &RolloutTarget<'_>,
    operator: &Operator<'_, StoreObjects<'_>>,
    number: u32,
    even_if_alive: bool,
    step: Option<OnceOutcome>,
) -> Result<String, CommandError> {
    let found = target.objects().slot(number)?.map(|found| found.object);
    let held = found.and_then(|slot| Some((slot.nonce, slot.holder?)));
    let Some((nonce, holder)) = held else {
        return Err(CommandError::Usage(
            Problem::new(format!("nobody holds slot {number} of {}", target.app))
                .hint("`trueup rollout status` shows the slots that are held"),
        ));
    };
    let node = holder.member.node;
    let silence = fleet::node_silence(target.store, target.environment, &node)
        .map_err(crate::pass::PassError::Store)?;
    let limit = target.fleet.heartbeat() * 2;
    if !even_if_alive && silence.is_some_and(|silence| silence < limit) {
        return Err(CommandError::Usage(
            Problem::new(format!(
                "{node}, which holds slot {number}, was heard of {} s ago",
                silence.unwrap_or_default().as_secs()
            ))
            .hint("it may be in the middle of its restart: look there first; `--yes` breaks the slot nevertheless"),
        ));
    }
    operator.break_slot(number, nonce, step).map_err(explain)?;
    Ok(node)
}

fn explain(error: OperatorError) -> CommandError {
    match error {
        OperatorError::Rollout(error) => error.into(),
        OperatorError::StepUnsettled { .. } => CommandError::Usage(
            Problem::new(error.to_string())
                .hint("look at its log on that host, and add `--step done|failed|retry`"),
        ),
        error => CommandError::Failed(
            Problem::new(error.to_string()).hint("`trueup rollout status` shows where it is"),
        ),
    }
}

#[cfg(test)]
mod bake_tests;
#[cfg(test)]
mod blocker_tests;
#[cfg(test)]
mod progress_tests;
#[cfg(test)]
mod restart_tests;
#[cfg(test)]
mod service_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unsent_tests;
