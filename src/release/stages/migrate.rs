//! The migrate stage: migrates the app's database, just before the release is activated.

use super::attempt::{Attempt, StageOutcome};
use super::once;
use super::run::{self, Task};
use super::skip;
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
    let definition = task.fingerprint(spec);
    let is_done = attempt
        .entry()
        .is_done(Stage::Migrate, None, Some(&definition));
    if is_done || once::is_earlier(attempt) {
        return Ok(None);
    }
    let for_all = migration.once == Once::Fleet;
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
                true => once::run_for_all(attempt, STEP, task, &mut wait_reason),
            }
        })
        .or_else(|failure| match wait_reason.is_some() {
            true => Ok(()),
            false => Err(failure),
        })?;
    Ok(wait_reason.map(DeployOutcome::Waiting))
}
