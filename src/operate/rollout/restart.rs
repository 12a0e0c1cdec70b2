//! A rolling restart of an app on all its hosts.

use jiff::Timestamp;

use super::target::{RolloutTarget, check_app};
use crate::desired::{Action, Manifest, PublishRequest};
use crate::exit::Exit;
use crate::fleet::rollout::{Operator, RolloutError, RolloutView, StoreObjects};
use crate::operate::CommandError;
use crate::operate::publish::Publish;
use crate::problem::Problem;

/// A request that hosts will find in the manifest.
#[derive(Debug)]
pub(crate) struct RequestedRestart {
    pub generation: Option<u64>,
    pub warnings: Vec<Problem>,
    /// Why the history of the rollouts does not have it.
    pub unrecorded: Option<RolloutError>,
}

/// Asks all hosts of an app to restart its services, by slots. `publisher` writes the request into the manifest.
pub(crate) fn request_restart(
    target: &RolloutTarget<'_>,
    (name, reason, now): (&str, &str, Timestamp),
    publisher: &dyn Publish,
) -> Result<RequestedRestart, CommandError> {
    let objects = target.objects();
    let instead = format!(
        "`trueup restart {}` on a host restarts its services there",
        target.app
    );
    check_app(target, &objects.manifest()?, &instead, now)?;
    let request = PublishRequest {
        action: Action::Restart,
        by: Some(name.to_owned()),
        reason: Some(reason.to_owned()).filter(|reason| !reason.is_empty()),
        restart: Some(target.app.to_owned()),
        ..PublishRequest::new(target.environment, now)
    };
    let published = publisher.publish(request)?;
    let operator = Operator {
        store: &objects,
        environment: target.environment,
        app: target.app,
        name,
        reason,
        now,
        sign: None,
    };
    Ok(RequestedRestart {
        generation: published.generation,
        warnings: published.warnings,
        unrecorded: operator.record_act("restart").err(),
    })
}

/// Adds the last restart that the manifest asks for to the rollout. One that is under way is a part of it.
pub(super) fn add_restart(
    view: &mut RolloutView,
    objects: &StoreObjects<'_>,
    manifest: &Manifest,
) -> Result<(), RolloutError> {
    let environment = manifest.environments.get(&view.environment);
    let entry = environment.and_then(|environment| environment.entry(&view.app)?.ok());
    let Some(requested_at) = entry.and_then(|entry| entry.restart_requested_at) else {
        return Ok(());
    };
    let restart = objects.restart_progress(requested_at, &view.proven)?;
    if !restart.pending.is_empty() && view.outcome == Exit::Converged {
        view.outcome = Exit::Pending;
    }
    view.restart = Some(restart);
    Ok(())
}
