//! What is known of the resources on the host, while a plan is applied.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::kind::Observation;
use crate::owed::Stamps;
use crate::ports::Host;
use crate::resource::{Failure, ServiceRun, Trial};
use crate::role::Resource;

/// The result of one inspection.
pub(super) type Observed<'c> = Result<Rc<dyn Observation + 'c>, Failure>;

/// The last observations of services and releases, which several steps ask for. They hold only as long as
/// trueup writes nothing: what is written for one resource may change any other.
pub(super) struct HostView<'c> {
    host: &'c Host,
    observed: BTreeMap<&'c str, Observed<'c>>,
    /// The stamps of what is on disk.
    pub stamps: Stamps,
}

impl<'c> HostView<'c> {
    pub(super) fn new(host: &'c Host, stamps: Stamps) -> HostView<'c> {
        HostView {
            host,
            observed: BTreeMap::new(),
            stamps,
        }
    }

    /// The resource on the host.
    pub(super) fn observe(&mut self, resource: &'c Resource) -> Observed<'c> {
        if let Some(observed) = self.observed.get(resource.id.as_str()) {
            return observed.clone();
        }
        let observed = resource.inspect(self.host).map(Rc::from);
        self.update_stamp(resource, &observed);
        if resource.body.service().is_some() || resource.body.release().is_some() {
            self.observed.insert(&resource.id, observed.clone());
        }
        observed
    }

    /// Updates the stamp of a resource that was changed by another way than its own apply.
    pub(super) fn refresh_stamp(&mut self, resource: &'c Resource) {
        // A failed inspection shows when the resource is next needed.
        let _ = self.observe(resource);
    }

    fn update_stamp(&mut self, resource: &Resource, observed: &Observed<'_>) {
        let (true, Ok(observed)) = (resource.watched, observed) else {
            return;
        };
        match observed.stamp() {
            Some(stamp) => self.stamps.insert(resource.id.clone(), stamp),
            None => self.stamps.remove(&resource.id),
        };
    }

    /// Drops all observations: something was written, or time has passed.
    pub(super) fn forget(&mut self) {
        self.observed.clear();
    }

    /// The run of a service; `None` for any other resource.
    pub(super) fn run(&mut self, resource: &'c Resource) -> Option<ServiceRun> {
        resource.body.service()?;
        let observed = self.observe(resource).ok()?;
        observed.condition().service()?.run.clone()
    }

    /// Whether a service that is restarted stays as its role describes it: it runs, or should. True for any other
    /// resource.
    pub(super) fn may_restart(&mut self, resource: &'c Resource) -> bool {
        let Ok(observed) = self.observe(resource) else {
            return true;
        };
        let service = observed.condition().service();
        service.is_none_or(|service| service.may_start || service.run.is_some())
    }

    /// The trial of the active release; `None` for any other resource.
    pub(super) fn trial(&mut self, resource: &'c Resource) -> Option<Trial> {
        resource.body.release()?;
        let observed = self.observe(resource).ok()?;
        observed.condition().release()?.trial.clone()
    }
}
