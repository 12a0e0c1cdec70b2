//! Drains around restarts: an app leaves its load balancers before a service that serves it is restarted, and comes back
//! once it has shown that it serves.
//!
//! A deployment drains its app before it switches `current`, and the end of the trial ends that. Here are the restarts
//! for other reasons: a changed unit, a package, an operator.

use super::Applier;
use super::services::{is_follower, service_checks, services_of};
use crate::release::{self, ReleaseSpec};
use crate::resource::{Duty, Failure, Trial, TrialOutcome};
use crate::role::{Catalog, Resource};

/// The app whose visitors a service serves, with its release.
fn served_app<'c>(
    catalog: &'c Catalog,
    resource: &Resource,
) -> Option<(&'c Resource, &'c ReleaseSpec)> {
    let service = resource.body.service()?;
    // Workers and cron jobs run from a release and serve nobody.
    if service.process().is_some() || is_follower(resource) {
        return None;
    }
    let served = service.serves()?;
    let mut releases = catalog.releases();
    releases.find(|(_, spec)| spec.layout().current() == served)
}

impl<'a> Applier<'a> {
    /// Drains the app of a service that is about to be restarted, unless it is drained already. Fails only if trueup is
    /// asked to stop meanwhile.
    pub(super) fn drain_before(
        &mut self,
        resource: &'a Resource,
        duty: Duty,
    ) -> Result<(), Failure> {
        match served_app(self.catalog, resource) {
            // A service that does not run serves nobody.
            Some((_, spec)) if duty == Duty::Restart && self.view.run(resource).is_some() => {
                release::drain(spec, self.host)
            }
            _ => Ok(()),
        }
    }

    /// Ends the drain of an app whose services were restarted without a trial, once it serves or its time limit has
    /// passed. It comes back in any case: its health check tells balancers the rest.
    pub(super) fn end_restart_drain(&mut self, resource: &'a Resource, spec: &ReleaseSpec) {
        if !release::is_drained(spec, self.host) {
            return;
        }
        match self.prove_restarted(resource, spec) {
            Ok(TrialOutcome::Passed | TrialOutcome::Stopped) => {}
            Ok(TrialOutcome::Failed(failure) | TrialOutcome::Conflict(failure)) | Err(failure) => {
                tracing::warn!("{}: after its restart: {failure}", resource.id);
            }
        }
        release::return_from_drain(spec, self.host);
    }

    /// Waits until an app serves again.
    fn prove_restarted(
        &self,
        resource: &'a Resource,
        spec: &ReleaseSpec,
    ) -> Result<TrialOutcome, Failure> {
        let layout = spec.layout();
        let active = release::active(self.host, &layout, spec.keep_releases)?;
        let Some(active) = active else {
            return Ok(TrialOutcome::Passed);
        };
        let trial = Trial {
            release: active.name,
            crashed: None,
            deploy_to: layout.deploy_to().to_owned(),
            current: layout.current(),
        };
        let services = services_of(self.catalog, resource);
        let services = services.filter(|(service, _)| !is_follower(service));
        let mut check_services = service_checks(services.collect(), &trial, self.host);
        let runs_as = || self.catalog.runs_as(&resource.id, self.host);
        Ok(release::poll_restarted(
            spec,
            self.host,
            active.sha.as_ref(),
            &mut check_services,
            &runs_as,
        ))
    }
}
