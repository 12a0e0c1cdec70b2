//! From a complete release to the active one, with the permission of the fleet.

use super::app::hooks::{AFTER_MIGRATE, BEFORE_ACTIVATE, BEFORE_MIGRATE};
use super::deployment::DeployOutcome;
use super::record;
use super::stages::attempt::Attempt;
use super::stages::preflight::{PreflightPoint, preflight};
use super::stages::{activate, active_links, drain, migrate, once, permission};
use crate::resource::Failure;

/// Activates a complete release, with the permission of the fleet. What comes before it takes nothing out of service.
pub(super) fn activate(attempt: &mut Attempt<'_, '_>) -> Result<DeployOutcome, Failure> {
    active_links::keep_links_before_switch(attempt)?;
    preflight(attempt, PreflightPoint::BeforeMigrate)?;
    let asked = match permission::request(attempt.deployment) {
        None => run_once_steps(attempt)?,
        denied => denied,
    };
    if let Some(outcome) = asked {
        return Ok(outcome);
    }
    preflight(attempt, PreflightPoint::BeforeActivate)?;
    attempt.deployment.check_stop()?;
    if let Some(outcome) = permission::confirm(attempt.deployment) {
        return Ok(outcome);
    }
    drain_and_switch(attempt)
}

/// Migrates, with the steps before and after it that one host runs for all. Returns why it waits, if another host runs
/// one.
fn run_once_steps(attempt: &mut Attempt<'_, '_>) -> Result<Option<DeployOutcome>, Failure> {
    let mut wait = once::run_hook(attempt, BEFORE_MIGRATE)?;
    if wait.is_none() {
        wait = migrate::migrate(attempt)?;
    }
    for hook in [AFTER_MIGRATE, BEFORE_ACTIVATE] {
        if wait.is_none() {
            wait = once::run_hook(attempt, hook)?;
        }
    }
    Ok(wait)
}

/// Takes the host out of its load balancers, and switches `current`. The app stays drained until its trial has ended.
fn drain_and_switch(attempt: &mut Attempt<'_, '_>) -> Result<DeployOutcome, Failure> {
    let (spec, host) = (attempt.deployment.spec, attempt.deployment.host);
    // A host that serves no release of the app is in no balancer.
    if record::current(host, &attempt.deployment.layout)?.is_some() {
        drain::drain(spec, host)?;
    }
    // Once more, because the wait was long.
    let outcome = match permission::confirm(attempt.deployment) {
        Some(denied) => Ok(denied),
        None => activate::switch_current(attempt).map(|()| DeployOutcome::Activated),
    };
    if !matches!(outcome, Ok(DeployOutcome::Activated)) {
        drain::end_drain(spec, host);
    }
    outcome
}
