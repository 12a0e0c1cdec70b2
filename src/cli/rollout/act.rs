//! The commands of `trueup rollout` that intervene.

use crate::cli::Output;
use crate::cli::args::{
    BreakSlotArgs, IgnoreArgs, OnceArgs, RolloutActArgs, RolloutCommand, StepResult,
};
use crate::cli::format::current_user;
use crate::cli::target::StoreTarget;
use crate::desired::Sha;
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::rollout::{Intervention, OnceOutcome, RolloutTarget, intervene};
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
    let done = intervene(&target, sha, what, operator)?;
    output.print_text(&done);
    if output.is_document() {
        output.print_document(&serde_json::json!({
            "version": crate::report::VERSION, "outcome": Exit::Converged, "done": done,
        }));
    }
    Ok(Exit::Converged)
}

/// What a command does, if it intervenes, and its common options.
pub(super) fn intervention(command: &RolloutCommand) -> Option<(&RolloutActArgs, Intervention)> {
    Some(match command {
        RolloutCommand::Resume(act) => (act, Intervention::Resume),
        RolloutCommand::SkipCanary(act) => (act, Intervention::SkipCanary),
        RolloutCommand::SkipAfter(act) => (act, Intervention::SkipAfter),
        RolloutCommand::Reset(act) => (act, Intervention::Reset),
        RolloutCommand::BreakSlot(BreakSlotArgs {
            act,
            slot,
            yes,
            step,
        }) => {
            let what = Intervention::BreakSlot {
                number: *slot,
                even_if_alive: *yes,
                step: step.map(outcome),
            };
            (act, what)
        }
        RolloutCommand::Ignore(IgnoreArgs { act, node }) => {
            (act, Intervention::Ignore { node: node.clone() })
        }
        RolloutCommand::Once(OnceArgs { act, step, resolve }) => {
            let what = Intervention::ResolveStep {
                step: step.clone(),
                outcome: outcome(*resolve),
            };
            (act, what)
        }
        RolloutCommand::Status(_) | RolloutCommand::Quarantine(_) => return None,
    })
}

fn outcome(result: StepResult) -> OnceOutcome {
    match result {
        StepResult::Done => OnceOutcome::Succeeded,
        StepResult::Failed => OnceOutcome::Failed,
        StepResult::Retry => OnceOutcome::Retry,
    }
}
