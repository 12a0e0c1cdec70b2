//! Steps that one host runs for all hosts (`once: fleet`), between the permission to activate and the activation.

use super::attempt::{Attempt, StageOutcome};
use super::run::{self, Task};
use crate::ports::permission::StepDecision;
use crate::release::app::stage::Stage;
use crate::release::deployment::DeployOutcome;
use crate::resource::Failure;

/// Runs the steps of a hook that one host runs for all. Returns why it waits, if another host runs one.
pub(crate) fn run_hook(
    attempt: &mut Attempt<'_, '_>,
    hook: &str,
) -> Result<Option<DeployOutcome>, Failure> {
    let spec = attempt.deployment.spec;
    if is_earlier(attempt) {
        return Ok(None);
    }
    for step in spec.hooks.once_steps_of(hook) {
        let name = step.name.as_deref().expect("validated");
        let task = Task::from_step(spec, format!("{hook} {name}"), Stage::Migrate, step);
        let definition = task.fingerprint(spec);
        let known = Some(definition.as_str());
        if attempt
            .entry()
            .is_done(Stage::Migrate, Some(&task.name), known)
        {
            continue;
        }
        attempt.deployment.check_stop()?;
        let mut wait_reason = None;
        let label = task.name.clone();
        let done = attempt.run_recorded(Stage::Migrate, Some(&label), known, |attempt| {
            run_for_all(attempt, name, task, &mut wait_reason)
        });
        match wait_reason {
            Some(why) => return Ok(Some(DeployOutcome::Waiting(why))),
            None => done?,
        }
    }
    Ok(None)
}

/// Whether what runs once per sha is done for this release: it was active before, or this host takes it instead of the
/// wanted one.
pub(super) fn is_earlier(attempt: &Attempt<'_, '_>) -> bool {
    let instead = attempt.deployment.spec.instead.as_ref();
    attempt.entry().find_stage(Stage::Gate, None).is_some()
        || instead.is_some_and(|instead| instead.sha == attempt.deployment.sha)
}

/// Runs a step for all hosts, unless another one does: then with the reason to wait.
pub(super) fn run_for_all(
    attempt: &Attempt<'_, '_>,
    step: &str,
    mut task: Task<'_>,
    wait_reason: &mut Option<String>,
) -> Result<StageOutcome, Failure> {
    let deployment = attempt.deployment;
    let run = |task: &Task<'_>| run::run(deployment, &attempt.name, task);
    // What is no rollout of the wanted sha, a pinned release say, is this host's own matter.
    if deployment.spec.wanted.as_ref() != Some(&deployment.sha) {
        return run(&task).map(|_| StageOutcome::Done);
    }
    let permission = deployment.host.permissions.of(&deployment.spec.app);
    match permission.claim_step(step) {
        StepDecision::Succeeded => Ok(StageOutcome::Skipped(format!(
            "another host ran `{step}` for all"
        ))),
        StepDecision::Failed(why) => Err(Failure::new(why)),
        StepDecision::Wait(why) => {
            *wait_reason = Some(why.clone());
            Err(Failure::new(why))
        }
        StepDecision::Run { attempt: number } => {
            task.attempt = Some(number);
            let result = run(&task);
            if result
                .as_ref()
                .is_err_and(|_| deployment.host.stop.is_set())
            {
                return result.map(|_| StageOutcome::Done);
            }
            let log_tail = result.as_ref().err().map(|failure| failure.message.clone());
            let recorded = permission.record_step(result.is_ok(), &log_tail.unwrap_or_default());
            result?;
            // Without it the other hosts would wait, and this one must not go on as if they did not.
            recorded.map_err(|why| {
                Failure::new(format!("it succeeded, but the store does not know: {why}"))
                    .hint("the next pass records it, without another run")
            })?;
            Ok(StageOutcome::Done)
        }
    }
}
