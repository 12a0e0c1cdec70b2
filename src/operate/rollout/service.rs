//! The slot of a service that belongs to no app, such as a load balancer.

use jiff::Timestamp;

use super::blocker::show_blocker;
use super::target::RolloutTarget;
use crate::desired::{POLICY_APP, RolloutPolicy};
use crate::exit::Exit;
use crate::fleet::rollout::{RolloutView, service_view};
use crate::operate::CommandError;

/// Whether this is the name of a service's slots instead of an app's.
pub(super) fn is_service(name: &str) -> bool {
    name.starts_with('_') && name != POLICY_APP
}

/// Who restarts or reloads the service now.
pub(super) fn observe_service(
    target: &RolloutTarget<'_>,
    now: Timestamp,
) -> Result<RolloutView, CommandError> {
    let mut view = service_view(&target.objects(), target.environment, target.app)?;
    if view.outcome == Exit::Pending {
        show_blocker(target, &RolloutPolicy::default(), now, &mut view)?;
    }
    Ok(view)
}
