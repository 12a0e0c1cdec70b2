//! The stage that brings the app's database up to the release, just before it is activated.

use super::attempt::{Attempt, Work};
use super::entry::Stage;
use super::run::{self, Task};
use crate::resource::Failure;

/// Migrates, once for each release. A release that is gone back to was migrated when it was new;
/// nothing is ever migrated down.
pub(super) fn migrate(attempt: &mut Attempt<'_, '_>) -> Result<(), Failure> {
    let spec = attempt.d.spec;
    let Some(migrate) = &spec.migrate else {
        return Ok(());
    };
    let is_known = attempt.entry().note(Stage::Gate, None).is_some();
    if is_known {
        return Ok(());
    }
    let task = Task {
        name: "migrate".into(),
        stage: Stage::Migrate,
        run: &migrate.run,
        env: &migrate.env,
        timeout: run::timeout(migrate.timeout),
        user: spec.user.as_deref(),
    };
    let definition = task.definition(spec);
    attempt.stage(Stage::Migrate, Some(&definition), |attempt| {
        tracing::info!(target: "progress", "{}: migrating", spec.app);
        run::run(attempt.d, &attempt.name, &task)?;
        Ok(Work::Done)
    })
}
