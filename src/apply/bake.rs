//! New releases: one that passed its gate only a moment ago is watched, and has to pass it again if it becomes
//! unhealthy.

use super::services::most_crashes;
use crate::plan::{Plan, Selection};
use crate::ports::Host;
use crate::ports::permission::{PermitDecision, Purpose};
use crate::release::{self, ReleaseSpec};
use crate::resource::Failure;
use crate::role::{Catalog, Resource};

/// A service that crashes this often while its release is new cannot run it. Once or twice may have another cause.
const MAX_CRASHES: u32 = 3;

/// What a look at a new release found.
enum Health {
    Good,
    Unhealthy(Failure),
    /// One of its services crashed too often.
    Crashed(String),
}

/// Puts the new releases on trial again that are unhealthy now. Returns whether there are any.
pub(crate) fn repeat_trials(
    catalog: &Catalog,
    plan: &Plan,
    selection: &Selection,
    host: &Host,
) -> bool {
    let mut repeats = false;
    let new = plan.new_releases.iter().filter_map(|id| catalog.find(id));
    for resource in new.filter(|resource| selection.contains(&resource.id)) {
        let Some(spec) = resource.body.release() else {
            continue;
        };
        // What the pass repairs may be the cause; the next one looks again.
        let mut own = std::iter::once(resource).chain(catalog.dependents(&resource.id));
        if own.any(|resource| plan.acts_on(&resource.id)) {
            continue;
        }
        let (why, crashed) = match look_at(resource, spec, catalog, host) {
            Health::Good => continue,
            Health::Unhealthy(failure) => (failure.message, None),
            Health::Crashed(how) => (how.clone(), Some(how)),
        };
        tracing::warn!("{}: the new release is unhealthy: {why}", resource.id);
        let permission = host.permissions.of(&spec.app);
        if let PermitDecision::Wait(why) = permission.request(Purpose::Repeat, true) {
            tracing::warn!("{}: it stays for now: {why}", resource.id);
            continue;
        }
        match release::repeat_trial(spec, host, crashed) {
            Ok(()) => repeats = true,
            Err(failure) => tracing::warn!("{}: {failure}", resource.id),
        }
    }
    repeats
}

fn look_at(resource: &Resource, spec: &ReleaseSpec, catalog: &Catalog, host: &Host) -> Health {
    let before = match release::crashes_at_gate(spec, host) {
        Ok(before) => before,
        Err(failure) => return Health::Unhealthy(failure),
    };
    let crashes = most_crashes(catalog, resource, host).saturating_sub(before);
    if crashes >= MAX_CRASHES {
        return Health::Crashed(format!(
            "one of its services crashed {crashes} times since it passed its gate"
        ));
    }
    let runs_as = || catalog.runs_as(&resource.id, host);
    match release::check_active(spec, host, &runs_as) {
        Ok(()) => Health::Good,
        Err(failure) => Health::Unhealthy(failure),
    }
}
