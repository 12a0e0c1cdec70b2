//! The records of what services run with.

use super::Applier;
use crate::owed;
use crate::plan::Plan;
use crate::ports::root::RootError;
use crate::resource::{Duty, ServiceRun};
use crate::role::Resource;

impl Applier<'_> {
    /// Records what each running service runs with, before any of its dependencies changes.
    pub(super) fn record_running_services(&self, plan: &Plan) -> Result<(), RootError> {
        for step in plan.steps.iter().filter(|step| step.run.is_some()) {
            let resource = self.catalog.find(&step.id);
            let resource = resource.expect("the steps were made from the catalog");
            if !resource.triggers.is_empty() {
                self.note_loaded(resource, step.run.as_ref());
                self.update_record(resource, step.run.as_ref(), &[])?;
            }
        }
        Ok(())
    }

    /// Lets a service note what it has loaded, if that is what is on disk.
    fn note_loaded(&self, resource: &Resource, run: Option<&ServiceRun>) {
        let Some(service) = resource.body.service() else {
            return;
        };
        let record = self.records.read(&resource.id);
        let (triggers, stamps) = (&resource.triggers, &self.view.stamps);
        if owed::due_obligations(record.as_ref(), run, triggers, stamps).is_empty() {
            let ids = triggers.iter().flat_map(|trigger| &trigger.on);
            let of_them = ids.filter_map(|id| stamps.get(id));
            let fingerprints: Vec<&str> = of_them.map(|stamp| &*stamp.fingerprint).collect();
            service.note_loaded(&fingerprints, self.host);
        }
    }

    pub(super) fn update_record(
        &self,
        resource: &Resource,
        run: Option<&ServiceRun>,
        fulfilled: &[Duty],
    ) -> Result<(), RootError> {
        let record = self.records.read(&resource.id);
        let triggers = &resource.triggers;
        let stamps = &self.view.stamps;
        let updated = owed::updated_record(record.as_ref(), run, triggers, stamps, fulfilled);
        self.records.write(&resource.id, &updated)
    }
}
