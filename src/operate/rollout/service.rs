//! The slot of a service that belongs to no app, such as a load balancer.

use super::silence::show_silent_holder;
use super::target::RolloutTarget;
use crate::exit::Exit;
use crate::fleet::rollout::{RolloutView, service_view};
use crate::operate::CommandError;

/// Whether this is the name of a service's slots instead of an app's.
pub(super) fn is_service(name: &str) -> bool {
    name.starts_with('_')
}

/// Who restarts or reloads the service now.
pub(super) fn observe_service(target: &RolloutTarget<'_>) -> Result<RolloutView, CommandError> {
    let mut view = service_view(&target.objects(), target.environment, target.app)?;
    if view.outcome == Exit::Pending {
        show_silent_holder(target, &mut view)?;
    }
    Ok(view)
}
