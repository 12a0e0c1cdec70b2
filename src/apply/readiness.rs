//! Whether a trial can be decided in this pass.

use super::services::is_follower;
use super::{Applier, ResourceResult};
use crate::owed::Obligation;
use crate::resource::Failure;
use crate::role::Resource;

/// Whether the results of the pass so far allow a trial to run.
pub(super) enum TrialReadiness {
    /// All its dependents were started or restarted.
    Ready,
    /// trueup was asked to stop.
    Stopped,
    /// One of its dependents cannot be started with it.
    DependentFailed(Failure),
    /// There can be no verdict yet.
    NotReady(String),
    /// There can be no verdict before an operator lets one of its dependents run.
    Waiting(String),
}

impl Applier<'_> {
    /// How the dependents of a release fared in this pass, those that the current part of its trial is about.
    pub(super) fn readiness(&self, resource: &Resource) -> TrialReadiness {
        if self.host.stop.is_set() {
            return TrialReadiness::Stopped;
        }
        let all = self.followers.is_gate_open(resource);
        let dependents = self.catalog.dependents(&resource.id);
        let dependents = dependents.filter(|dependent| all || !is_follower(dependent));
        let entries = dependents.filter_map(|dependent| {
            let entry = self.results.get(&*dependent.id)?;
            Some((&dependent.id, entry))
        });
        let entries: Vec<_> = entries.collect();
        // One that failed decides, whatever another waits for.
        let mut failures = entries
            .iter()
            .filter_map(|(_, entry)| entry.start_failure());
        if let Some(failure) = failures.next() {
            return TrialReadiness::DependentFailed(failure.clone());
        }
        for (id, entry) in entries {
            match &entry.result {
                ResourceResult::Failed(_, failure) => {
                    return TrialReadiness::NotReady(format!("{id}: {}", failure.message));
                }
                ResourceResult::Skipped(why) => {
                    return TrialReadiness::NotReady(format!("{id}: {why}"));
                }
                ResourceResult::Waiting(_, why) => {
                    return TrialReadiness::Waiting(format!("{id}: {why}"));
                }
                _ => {}
            }
            let is_cause = |owed: &Obligation| owed.causes.contains(&resource.id);
            if let Some((owed, why)) = entry.owed.iter().find(|(owed, _)| is_cause(owed)) {
                let duty = owed.duty;
                return TrialReadiness::NotReady(format!("{duty} of {id} is still owed: {why}"));
            }
        }
        TrialReadiness::Ready
    }
}
