//! Runs the hooks of an app around a stage or a rollback.

use super::run::{self, Task};
use crate::release::app::hooks::ROLLBACK;
use crate::release::app::stage::Stage;
use crate::release::app::step::Once;
use crate::release::deployment::Deployment;
use crate::resource::Failure;

/// Whether a hook runs before or after its stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HookTiming {
    Before,
    After,
}

/// Runs the hooks before or after a stage. The first failure fails the stage.
pub(crate) fn run(
    deployment: &Deployment<'_>,
    release: &str,
    timing: HookTiming,
    stage: Stage,
) -> Result<(), Failure> {
    run_hook(deployment, release, timing, stage.as_str(), stage)
}

/// Runs the hooks before or after a rollback.
pub(crate) fn run_rollback(
    deployment: &Deployment<'_>,
    release: &str,
    timing: HookTiming,
) -> Result<(), Failure> {
    run_hook(deployment, release, timing, ROLLBACK, Stage::Activate)
}

fn run_hook(
    deployment: &Deployment<'_>,
    release: &str,
    timing: HookTiming,
    word: &str,
    stage: Stage,
) -> Result<(), Failure> {
    let side = match timing {
        HookTiming::Before => "before",
        HookTiming::After => "after",
    };
    let hook = format!("{side}_{word}");
    let spec = deployment.spec;
    for (i, step) in spec.hooks.steps_of(&hook).iter().enumerate() {
        if step.once == Once::Fleet {
            // With permission, before this stage or another: `once`.
            continue;
        }
        let name = match &step.name {
            Some(name) => format!("{hook} {name}"),
            None => format!("{hook} {}", i + 1),
        };
        let mut task = Task::from_step(spec, name, stage, step);
        task.may_stop = stage < Stage::Migrate;
        run::run(deployment, release, &task)?;
    }
    Ok(())
}
