//! Asks the fleet before anything of an app is taken out of service.

use super::{Applier, ResourceResult};
use crate::kind::Observation;
use crate::ports::permission::{PermitDecision, Purpose};
use crate::release;
use crate::resource::{Change, Duty, Verb};
use crate::role::Resource;

impl<'a> Applier<'a> {
    /// The result of a complete release that may not be activated now, before anybody hears of a deployment. `None`: it
    /// may, or is to be built first.
    pub(super) fn ask_fleet(
        &self,
        resource: &Resource,
        observed: &dyn Observation,
        change: &Change,
    ) -> Option<ResourceResult> {
        let spec = resource.body.release()?;
        let state = observed.condition().release()?;
        if change.verb != Verb::Deploy || change.withheld.is_some() {
            return None;
        }
        let (purpose, serves) = (state.needs_permission?, state.sha.is_some());
        Some(match release::obstacle(spec, purpose, serves, self.host)? {
            PermitDecision::Refused(why) => {
                ResourceResult::RolledBack(change.clone(), release::quarantined(&why))
            }
            PermitDecision::Wait(why) => ResourceResult::Waiting(change.clone(), why),
            PermitDecision::Granted => return None,
        })
    }

    /// Why a service of an app may not be restarted now: its web server, or a worker, which all hosts would restart at
    /// once. A deployment, which has permission already, restarts what it needs.
    pub(super) fn restart_blocker(&mut self, resource: &'a Resource, duty: Duty) -> Option<String> {
        let catalog = self.catalog;
        if duty != Duty::Restart {
            return None;
        }
        let on = resource.triggers.iter().flat_map(|trigger| &trigger.on);
        let mut releases = on
            .filter_map(|id| catalog.find(id))
            .filter(|other| other.body.release().is_some());
        // Of several releases that of the app whose deployment restarts it.
        let release = releases.find(|release| resource.restarts_with(&release.id))?;
        let spec = release.body.release()?;
        if self.view.trial(release).is_some() {
            return None;
        }
        let permission = self.host.permissions.of(&spec.app);
        match permission.request(Purpose::Restart, true) {
            PermitDecision::Granted => None,
            PermitDecision::Wait(why) | PermitDecision::Refused(why) => Some(why),
        }
    }
}
