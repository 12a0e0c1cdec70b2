//! The stages that run the role's steps in a release, and then what compiles its assets.

use super::assets;
use super::attempt::{Attempt, Work};
use super::entry::Stage;
use super::run::{self, Task};
use crate::digest::digest;
use crate::resource::Failure;

/// Runs the steps that were not done yet, in order. The first that fails ends it.
pub(super) fn steps(attempt: &mut Attempt<'_, '_>) -> Result<(), Failure> {
    let spec = attempt.d.spec;
    let tasks: Vec<Task<'_>> = spec
        .steps
        .iter()
        .enumerate()
        .map(|(i, step)| Task::of(spec, spec.step_name(i), Stage::Build, step))
        .collect();
    let definitions: Vec<String> = tasks.iter().map(|task| task.definition(spec)).collect();
    let all = digest(definitions.join(" ").as_bytes())[..16].to_owned();
    attempt.stage(Stage::Build, Some(&all), |attempt| {
        if tasks.is_empty() {
            return Ok(Work::Skipped("it has no steps".into()));
        }
        // A step that was changed or comes anew spoils what later ones made of it.
        let mut afresh = false;
        for (i, (task, definition)) in tasks.iter().zip(&definitions).enumerate() {
            let step = Some(task.name.as_str());
            let done = attempt.entry().is_done(Stage::Build, step, Some(definition));
            if done && !afresh {
                continue;
            }
            afresh = true;
            attempt.d.go_on()?;
            tracing::info!(target: "progress", "{}: step {} of {}: {}", spec.app, i + 1, tasks.len(), task.name);
            attempt.noted(Stage::Build, step, Some(definition), |attempt| {
                run::run(attempt.d, &attempt.name, task)?;
                Ok(Work::Done)
            })?;
        }
        Ok(Work::Done)
    })
}

/// What the stage `assets` notes apart: it is not compiled again when only the sharing was left.
const COMPILE: &str = "compile";

/// Compiles the assets.
pub(super) fn assets(attempt: &mut Attempt<'_, '_>) -> Result<(), Failure> {
    let spec = attempt.d.spec;
    let Some(assets) = &spec.assets else {
        return Ok(());
    };
    let task = Task {
        name: "assets".into(),
        stage: Stage::Assets,
        run: &assets.run,
        env: &assets.env,
        timeout: run::timeout(assets.timeout),
        user: spec.user.as_deref(),
    };
    let definition = task.definition(spec);
    attempt.stage(Stage::Assets, Some(&definition), |attempt| {
        let d = attempt.d;
        let compiled = attempt
            .entry()
            .is_done(Stage::Assets, Some(COMPILE), Some(&definition));
        if !compiled {
            tracing::info!(target: "progress", "{}: assets", spec.app);
            assets::begin(d, &attempt.name)?;
            attempt.noted(Stage::Assets, Some(COMPILE), Some(&definition), |attempt| {
                run::run(attempt.d, &attempt.name, &task)?;
                Ok(Work::Done)
            })?;
        }
        assets::gather(d, &attempt.name)?;
        assets::serve_beside(d)?;
        Ok(Work::Done)
    })
}
