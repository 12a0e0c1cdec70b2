//! The services that run from a release.

use crate::kind::ServiceProcesses;
use crate::ports::Host;
use crate::resource::{Failure, Trial};
use crate::role::{Catalog, Resource};

/// A service that crashes this often in a trial does not boot. Once may be a race with what it needs.
const MAX_CRASHES: u32 = 2;

/// The services that run from a release.
pub(super) fn services_of<'c>(
    catalog: &'c Catalog,
    release: &Resource,
) -> impl Iterator<Item = (&'c Resource, &'c dyn ServiceProcesses)> {
    let dependents = catalog.dependents(&release.id);
    dependents.filter_map(|dependent| Some((dependent, dependent.body.service()?)))
}

/// How often the service that crashed most of those that run from a release did so since it was started. Not the sum: if
/// what ten workers need is away for a moment, each of them may crash once.
pub(super) fn most_crashes(catalog: &Catalog, release: &Resource, host: &Host) -> u32 {
    let services = services_of(catalog, release);
    let crashes = services.map(|(_, service)| service.crashes(host));
    crashes.max().unwrap_or(0)
}

/// Whether a service starts with a new release only after the gate.
pub(super) fn is_follower(resource: &Resource) -> bool {
    let service = resource.body.service();
    service.is_some_and(|service| service.is_after_gate())
}

/// Whether a release has followers.
pub(super) fn has_followers(catalog: &Catalog, release: &Resource) -> bool {
    catalog.dependents(&release.id).any(is_follower)
}

/// A check that services run from a release, and that none crashes repeatedly from now on.
pub(super) fn service_checks<'a>(
    services: Vec<(&'a Resource, &'a dyn ServiceProcesses)>,
    trial: &'a Trial,
    host: &'a Host,
) -> impl FnMut() -> Result<(), Failure> {
    let crashes_before: Vec<u32> = services.iter().map(|(_, s)| s.crashes(host)).collect();
    move || {
        for ((dependent, service), before) in services.iter().zip(&crashes_before) {
            let crashes = service.crashes(host).saturating_sub(*before);
            if crashes >= MAX_CRASHES {
                return Err(Failure::permanent(format!(
                    "{} crashed {crashes} times since its start",
                    dependent.id
                )));
            }
            service.check_runs_from(host, trial)?;
        }
        Ok(())
    }
}
