//! Finds the dependents of a resource.

use super::catalog::Catalog;
use super::resource::Resource;
use crate::ports::Host;
use crate::release::ReleaseSpec;

impl Catalog {
    /// The resources that act when this one changes.
    pub(crate) fn dependents(&self, id: &str) -> impl Iterator<Item = &Resource> {
        self.resources.iter().filter(move |user| {
            let mut on = user.triggers.iter().flat_map(|trigger| &trigger.on);
            on.any(|on| on == id)
        })
    }

    /// The timers of the cron jobs that run from an app.
    pub(crate) fn cron_timers(&self, app: &ReleaseSpec) -> impl Iterator<Item = &Resource> {
        let current = app.layout().current();
        self.resources.iter().filter(move |resource| {
            let service = resource.body.service();
            service.is_some_and(|service| {
                service.name().ends_with(".timer") && service.serves() == Some(&current)
            })
        })
    }

    /// The user ids under which the processes of a resource's dependents run.
    pub(crate) fn runs_as(&self, id: &str, host: &Host) -> Vec<u32> {
        let users = self.dependents(id);
        users
            .filter_map(|user| user.body.service())
            .flat_map(|service| service.process_uids(host))
            .collect()
    }
}
