//! New releases: one that passed its gate only a moment ago is watched, and has to pass it again if it becomes
//! unhealthy.

use super::trial::{MAX_CRASHES_OF_NEW, services_of};
use crate::plan::{Plan, Selection};
use crate::ports::Host;
use crate::release::{self, ReleaseSpec};
use crate::resource::Failure;
use crate::role::{Catalog, Resource};

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
        let Err(why) = check(resource, spec, catalog, host) else {
            continue;
        };
        tracing::warn!("{}: the new release is unhealthy: {why}", resource.id);
        match release::repeat_trial(spec, host) {
            Ok(()) => repeats = true,
            Err(failure) => tracing::warn!("{}: {failure}", resource.id),
        }
    }
    repeats
}

fn check(
    resource: &Resource,
    spec: &ReleaseSpec,
    catalog: &Catalog,
    host: &Host,
) -> Result<(), Failure> {
    for (dependent, service) in services_of(catalog, resource) {
        let crashes = service.crashes(host);
        if crashes >= MAX_CRASHES_OF_NEW {
            let why = format!("{} crashed {crashes} times since its start", dependent.id);
            return Err(Failure::new(why));
        }
    }
    let runs_as = || catalog.runs_as(&resource.id, host);
    release::check_active(spec, host, &runs_as)
}
