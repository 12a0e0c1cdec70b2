//! The build and assets stages: run the role's steps in a release, then compile its assets.

use super::assets;
use super::attempt::{Attempt, StageOutcome};
use super::copy::copy_from_release;
use super::description::COMPILE_STEP;
use super::files;
use super::outputs;
use super::run::{self, Task};
use super::skip;
use crate::digest::digest;
use crate::release::app::stage::Stage;
use crate::resource::Failure;

/// Runs the steps that were not done yet, in order, up to the first failure.
pub(crate) fn run_steps(attempt: &mut Attempt<'_, '_>) -> Result<(), Failure> {
    let spec = attempt.deployment.spec;
    let tasks: Vec<Task<'_>> = (0..spec.steps.len())
        .map(|index| Task::build_step(spec, index))
        .collect();
    let definitions: Vec<String> = tasks.iter().map(|task| task.fingerprint(spec)).collect();
    let all = digest(definitions.join(" ").as_bytes())[..16].to_owned();
    attempt.run_stage(Stage::Build, Some(&all), |attempt| {
        if tasks.is_empty() {
            return Ok(StageOutcome::Skipped("it has no steps".into()));
        }
        // A changed or new step invalidates the outputs of later ones.
        let mut afresh = false;
        for (task, definition) in tasks.iter().zip(&definitions) {
            let step = Some(task.name.as_str());
            let done = attempt
                .entry()
                .is_done(Stage::Build, step, Some(definition));
            if done && !afresh {
                continue;
            }
            afresh = true;
            attempt.deployment.check_stop()?;
            attempt.run_recorded(Stage::Build, step, Some(definition), |attempt| {
                let deployment = attempt.deployment;
                if let Some(shared) = task.shared_outputs {
                    let outcome = outputs::provide(attempt, task, shared)?;
                    if let StageOutcome::Skipped(why) = &outcome {
                        tracing::info!(target: "progress", "{}: skipped, {why}", task.title);
                    }
                    return Ok(outcome);
                }
                if let Some(basis) = skip::find_basis(attempt, task)? {
                    // All releases share the linked ones.
                    let mut outputs = task
                        .outputs
                        .iter()
                        .filter(|output| deployment.spec.link_above(output).is_none());
                    let carried = outputs.try_for_each(|output| {
                        copy_from_release(deployment, &attempt.name, &basis.name, output)
                    });
                    match carried {
                        Ok(()) => {
                            // The copied folders have the rendered files of the other release.
                            files::write_files(deployment, &deployment.app_folder(&attempt.name))?;
                            tracing::info!(target: "progress", "{}: skipped, {}", task.title, basis.describe());
                            return Ok(StageOutcome::Skipped(basis.describe()));
                        }
                        Err(failure) if deployment.host.stop.is_set() => return Err(failure),
                        // Outputs that cannot be copied, because of what others put there, are built from
                        // scratch.
                        Err(failure) => {
                            tracing::warn!("{}: cannot copy its outputs, running it: {failure}", task.name);
                        }
                    }
                }
                run::run(deployment, &attempt.name, task)?;
                Ok(StageOutcome::Done)
            })?;
        }
        Ok(StageOutcome::Done)
    })
}

/// Compiles the assets, or reuses those of another release.
pub(crate) fn compile_assets(attempt: &mut Attempt<'_, '_>) -> Result<(), Failure> {
    let spec = attempt.deployment.spec;
    let Some(task) = Task::assets(spec) else {
        return Ok(());
    };
    let definition = task.fingerprint(spec);
    attempt.run_stage(Stage::Assets, Some(&definition), |attempt| {
        let deployment = attempt.deployment;
        if let Some(basis) = skip::find_basis(attempt, &task)? {
            match assets::reuse(deployment, &attempt.name, &basis.name) {
                Ok(()) => {
                    tracing::info!(target: "progress", "{}: assets: skipped, {}", spec.app, basis.describe());
                    return Ok(StageOutcome::Skipped(basis.describe()));
                }
                Err(failure) if deployment.host.stop.is_set() => return Err(failure),
                Err(failure) => tracing::warn!("{}: assets: cannot reuse them, compiling: {failure}", spec.app),
            }
        }
        let compiled = attempt
            .entry()
            .is_done(Stage::Assets, Some(COMPILE_STEP), Some(&definition));
        if !compiled {
            assets::reset_compile_folder(deployment, &attempt.name)?;
            attempt.run_recorded(Stage::Assets, Some(COMPILE_STEP), Some(&definition), |attempt| {
                run::run(attempt.deployment, &attempt.name, &task)?;
                Ok(StageOutcome::Done)
            })?;
        }
        assets::share_compiled(deployment, &attempt.name)?;
        assets::update_active_links(deployment)?;
        Ok(StageOutcome::Done)
    })
}
