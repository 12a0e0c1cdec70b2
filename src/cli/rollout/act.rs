//! The commands of `trueup rollout` that intervene.

use crate::cli::Output;
use crate::cli::act::inherited_environment;
use crate::cli::args::{BreakSlotArgs, OnceArgs, RolloutActArgs, StepResult};
use crate::cli::format::current_user;
use crate::cli::target::StoreTarget;
use crate::desired::{Sha, namespace, written_signature};
use crate::exit::Exit;
use crate::fleet::rollout::SignText;
use crate::operate::rollout::{Intervention, OnceOutcome, RolloutTarget, intervene};
use crate::operate::{CommandError, SigningKey};
use crate::pass::{PassError, Paths};
use crate::ports::clock::{Clock, SystemClock};
use crate::ports::store;
use crate::problem::Problem;

/// Carries out a command that intervenes.
pub(super) fn run(
    act: &RolloutActArgs,
    what: &Intervention,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let target = StoreTarget::resolve(&act.at, paths, "rollout")?;
    let store = store::open(&target.store).map_err(PassError::Store)?;
    let target = RolloutTarget {
        store: store.as_ref(),
        environment: &act.env,
        app: &act.app,
        manifest_key: &target.manifest,
        fleet: &target.fleet,
    };
    let sha = act.sha.as_deref().map(Sha::parse).transpose();
    let sha = sha.map_err(|invalid| {
        CommandError::Usage(Problem::new(format!("--sha: {}", invalid.message)).hint(invalid.hint))
    })?;
    if act.reason.trim().is_empty() {
        return Err(CommandError::Usage(Problem::new(
            "--reason: expected a text",
        )));
    }
    let operator = (current_user(), act.reason.clone(), SystemClock.now());
    let key = act.sign.as_ref().map(|file| SigningKey {
        file: file.clone(),
        env: inherited_environment(),
    });
    let sign = |text: &str| {
        let key = key.as_ref();
        let key = key.ok_or_else(|| Problem::new("there is no key to sign with"))?;
        written_signature(&key.sign(&namespace(&act.env), text)?)
    };
    // Before anything is done that is to be signed.
    if key.is_some() {
        sign("").map_err(CommandError::Usage)?;
    }
    let signing: Option<&SignText<'_>> = match key {
        Some(_) => Some(&sign),
        None => None,
    };
    let done = intervene(&target, sha, what, operator, signing)?;
    output.print_text(&done);
    if output.is_document() {
        output.print_document(&serde_json::json!({
            "version": crate::report::VERSION, "outcome": Exit::Converged, "done": done,
        }));
    }
    Ok(Exit::Converged)
}

pub(super) fn break_slot(args: &BreakSlotArgs) -> Intervention {
    Intervention::BreakSlot {
        number: args.slot,
        even_if_alive: args.yes,
        step: args.step.map(step_outcome),
    }
}

pub(super) fn resolve_step(args: &OnceArgs) -> Intervention {
    Intervention::ResolveStep {
        step: args.step.clone(),
        outcome: step_outcome(args.resolve),
    }
}

pub(in crate::cli) fn step_outcome(result: StepResult) -> OnceOutcome {
    match result {
        StepResult::Done => OnceOutcome::Succeeded,
        StepResult::Failed => OnceOutcome::Failed,
        StepResult::Retry => OnceOutcome::Retry,
    }
}
