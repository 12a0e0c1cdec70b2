//! Followers of a release: services such as workers, which start with a new release only after its gate (`after_gate`).
//!
//! A trial has two parts then. In the first one the other services of the release and its health check are asked, as if
//! there were no followers; these go on with the release before, and none of their work is interrupted for a release
//! that cannot serve. In the second one they are started or restarted, and have to stay up. A follower that fails fails
//! the release, and goes back with it.

use super::services::is_follower;
use super::{Applier, ResourceResult};
use crate::ports::root::RootError;
use crate::role::Resource;

impl<'a> Applier<'a> {
    /// Why a follower may not be started or restarted yet: a release that it uses has not passed its gate.
    pub(super) fn defer_to_gate(&mut self, resource: &'a Resource) -> Option<String> {
        if !is_follower(resource) {
            return None;
        }
        let catalog = self.catalog;
        let on = resource.triggers.iter().flat_map(|trigger| &trigger.on);
        for release in on.filter_map(|id| catalog.find(id)) {
            if release.body.release().is_some()
                && !self.followers.is_gate_open(release)
                && self.view.trial(release).is_some()
            {
                self.followers.defer(resource);
                return Some(format!("it waits for the gate of {}", release.id));
            }
        }
        None
    }

    /// Starts or restarts the followers that waited for this release, which has passed the first part of its trial.
    pub(super) fn start_followers(&mut self, release: &'a Resource) -> Result<(), RootError> {
        self.followers.open_gate(release);
        let catalog = self.catalog;
        for follower in catalog.dependents(&release.id) {
            if !self.results.contains_key(&*follower.id) || !self.followers.end_wait(follower) {
                continue;
            }
            self.result_mut(follower).owed.clear();
            if matches!(
                self.result_mut(follower).result,
                ResourceResult::Waiting(..)
            ) {
                let result = self.change_resource(follower)?;
                self.result_mut(follower).result = result;
            }
            self.fulfill_duties(follower)?;
        }
        self.view.forget();
        Ok(())
    }
}
