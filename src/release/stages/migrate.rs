//! The migrate stage: migrates the app's database, just before the release is activated.

use super::attempt::{Attempt, StageOutcome};
use super::run::{self, Task};
use super::skip;
use crate::release::app::stage::Stage;
use crate::resource::Failure;

/// Migrates once per release. A release that is rolled back to was migrated when it was new; trueup never
/// migrates down.
pub(crate) fn migrate(attempt: &mut Attempt<'_, '_>) -> Result<(), Failure> {
    let spec = attempt.deployment.spec;
    let Some(task) = Task::migrate(spec) else {
        return Ok(());
    };
    let is_known = attempt.entry().find_stage(Stage::Gate, None).is_some();
    if is_known {
        return Ok(());
    }
    let definition = task.fingerprint(spec);
    attempt.run_stage(Stage::Migrate, Some(&definition), |attempt| {
        if let Some(basis) = skip::find_basis(attempt, &task)? {
            return Ok(StageOutcome::Skipped(basis.describe()));
        }
        run::run(attempt.deployment, &attempt.name, &task)?;
        Ok(StageOutcome::Done)
    })
}
