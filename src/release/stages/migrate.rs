//! The migrate stage: migrates the app's database, just before the release is activated.

use super::attempt::{Attempt, StageOutcome};
use super::run::{self, Task};
use super::skip;
use crate::ports::permission::StepDecision;
use crate::release::app::stage::Stage;
use crate::release::app::step::Once;
use crate::release::deployment::DeployOutcome;
use crate::resource::Failure;

/// The name of the migration among the steps that one host runs for all.
const STEP: &str = "migrate";

/// Migrates once per release, or once for all hosts. A release that is rolled back to was migrated when it was new;
/// trueup never migrates down. Returns why it waits, if another host migrates.
pub(crate) fn migrate(attempt: &mut Attempt<'_, '_>) -> Result<Option<DeployOutcome>, Failure> {
    let spec = attempt.deployment.spec;
    let Some((migration, task)) = spec.migrate.as_ref().zip(Task::migrate(spec)) else {
        return Ok(None);
    };
    let is_known = attempt.entry().find_stage(Stage::Gate, None).is_some();
    let definition = task.fingerprint(spec);
    let is_done = attempt
        .entry()
        .is_done(Stage::Migrate, None, Some(&definition));
    // What this host takes instead of the wanted sha was migrated when it was wanted.
    let is_earlier = spec
        .instead
        .as_ref()
        .is_some_and(|instead| instead.sha == attempt.deployment.sha);
    if is_known || is_done || is_earlier {
        return Ok(None);
    }
    // What is no rollout of the wanted sha, a pinned release say, is this host's own matter.
    let for_all =
        migration.once == Once::Fleet && spec.wanted.as_ref() == Some(&attempt.deployment.sha);
    let mut wait_reason = None;
    attempt
        .run_stage(Stage::Migrate, Some(&definition), |attempt| {
            if let Some(basis) = skip::find_basis(attempt, &task)? {
                return Ok(StageOutcome::Skipped(basis.describe()));
            }
            match for_all {
                false => {
                    run::run(attempt.deployment, &attempt.name, &task).map(|_| StageOutcome::Done)
                }
                true => migrate_for_all(attempt, task, &mut wait_reason),
            }
        })
        .or_else(|failure| match wait_reason.is_some() {
            true => Ok(()),
            false => Err(failure),
        })?;
    Ok(wait_reason.map(DeployOutcome::Waiting))
}

/// Migrates for all hosts, unless another one does.
fn migrate_for_all(
    attempt: &Attempt<'_, '_>,
    mut task: Task<'_>,
    wait_reason: &mut Option<String>,
) -> Result<StageOutcome, Failure> {
    let (host, app) = (attempt.deployment.host, &attempt.deployment.spec.app);
    let permission = host.permissions.of(app);
    match permission.claim_step(STEP) {
        StepDecision::Succeeded => Ok(StageOutcome::Skipped(
            "another host migrated for all".into(),
        )),
        StepDecision::Failed(why) => Err(Failure::new(why)),
        StepDecision::Wait(why) => {
            *wait_reason = Some(why.clone());
            Err(Failure::new(why))
        }
        StepDecision::Run { attempt: number } => {
            task.attempt = Some(number);
            let result = run::run(attempt.deployment, &attempt.name, &task);
            if result.as_ref().is_err_and(|_| host.stop.is_set()) {
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
