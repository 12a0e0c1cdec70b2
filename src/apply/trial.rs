//! Trials: a release that was put into service has to show that it works, or the earlier one is restored.
//!
//! | question | answer |
//! | --- | --- |
//! | Can the trial be decided in this pass? | [`TrialReadiness`] |
//! | What do the processes and the health check show? | [`TrialOutcome`] of [`release::poll_gate`] |
//! | What do both together say, of a new release or of a restored one? | [`Verdict`] |
//! | If it failed: is there a release to restore? | [`RollbackOutcome`](release::RollbackOutcome) of [`release::restore_previous`] |
//! | Where did the trial end? | [`TrialEnd`], which becomes the [`ResourceResult`] |
//!
//! By now all duties of the changes are done, so every process that uses a release on trial was restarted. A
//! service that could not be restarted for a reason of its own (a config that failed its check, say) leaves
//! the trial open, because that says nothing about the release.

use super::readiness::TrialReadiness;
use super::services::{has_followers, is_follower, most_crashes, service_checks, services_of};
use super::{Applier, Event, LIFT_HINT, ResourceResult};
use crate::ports::exec::block_quote;
use crate::ports::root::RootError;
use crate::release::{self, ReleaseSpec};
use crate::resource::{Change, Duty, Failure, Trial, TrialOutcome, Verb, Withheld};
use crate::role::Resource;

/// What a trial shows, for a new release and for one that was restored.
pub(super) enum Verdict {
    Passed,
    Failed(Failure),
    /// trueup was asked to stop, so the next pass continues.
    Stopped,
    /// Not before an operator lets one of its dependents run.
    Waiting(String),
    /// Not in this pass, for a reason that says nothing about the release.
    Open(Failure),
}

/// Where a trial ended in this pass.
pub(super) enum TrialEnd {
    /// Proven, and the wanted one.
    Proven,
    /// Proven, but another release is wanted: a pass that was killed while it rolled back a bad release
    /// leaves a good one on trial.
    ProvenUnwanted(Change),
    /// trueup was asked to stop, so the next pass continues.
    Stopped,
    /// An operator has to let one of its dependents run.
    Waiting(String),
    /// No good release is proven to run: there is no verdict, it could not be carried out, or the restored release
    /// failed as well.
    Unresolved(Failure),
    /// The release failed, and the last good one is back.
    RolledBack(Failure),
}

impl TrialEnd {
    /// The result of the resource. `before`: its result before the trial.
    fn into_result(self, before: ResourceResult) -> ResourceResult {
        let change = |before: ResourceResult| {
            let change = before.into_change();
            change.unwrap_or_else(|| Change::new(Verb::Prove))
        };
        match self {
            TrialEnd::Proven => before,
            TrialEnd::ProvenUnwanted(change) => match &change.withheld {
                Some(Withheld::Quarantined(why)) => {
                    let failure = Failure::new(why).hint(LIFT_HINT);
                    ResourceResult::RolledBack(change, failure)
                }
                Some(Withheld::OnHold(why)) => {
                    let why = why.clone();
                    ResourceResult::Waiting(change, why)
                }
                None => ResourceResult::Waiting(change, "the next pass continues with it".into()),
            },
            TrialEnd::Stopped => ResourceResult::stopped(),
            TrialEnd::Waiting(why) => ResourceResult::Waiting(change(before), why),
            TrialEnd::Unresolved(failure) => ResourceResult::Failed(Some(change(before)), failure),
            TrialEnd::RolledBack(failure) => ResourceResult::RolledBack(change(before), failure),
        }
    }
}

/// A release on trial, and the resource that deployed it.
pub(super) struct OnTrial<'a> {
    pub resource: &'a Resource,
    pub spec: &'a ReleaseSpec,
    pub trial: Trial,
}

impl<'a> Applier<'a> {
    /// Runs the trial of a resource to its end, if it is on one.
    pub(super) fn finish_trial(&mut self, resource: &'a Resource) -> Result<(), RootError> {
        let Some(spec) = resource.body.release() else {
            return Ok(());
        };
        let Some(trial) = self.view.trial(resource) else {
            self.end_restart_drain(resource, spec);
            return Ok(());
        };
        let _operation = resource.body.begin_operation();
        // Also of a trial that an earlier pass began.
        (self.on_event)(Event::TrialStarted { id: &resource.id });
        let on_trial = OnTrial {
            resource,
            spec,
            trial,
        };
        let is_drained = release::is_drained(spec, self.host);
        let end = self.run_to_end(&on_trial)?;
        if is_drained {
            // However it ended.
            release::return_from_drain(spec, self.host);
        }
        self.view.forget();
        let entry = self.result_mut(resource);
        entry.result = end.into_result(entry.take_result());
        Ok(())
    }

    fn run_to_end(&mut self, on_trial: &OnTrial<'a>) -> Result<TrialEnd, RootError> {
        let undecided = format!("{} has not passed its gate", on_trial.trial.release);
        Ok(match self.decide(on_trial)? {
            Verdict::Passed => self.confirm(on_trial),
            Verdict::Failed(failure) => {
                let failure = self.with_log_tails(on_trial.resource, failure);
                self.roll_back(on_trial, &failure)?
            }
            Verdict::Stopped => TrialEnd::Stopped,
            Verdict::Waiting(why) => TrialEnd::Waiting(format!("{undecided}: {why}")),
            Verdict::Open(failure) => TrialEnd::Unresolved(failure.with_context(&undecided)),
        })
    }

    /// Decides a trial, if that is possible in this pass: without its followers first, and then with them.
    pub(super) fn decide(&mut self, on_trial: &OnTrial<'a>) -> Result<Verdict, RootError> {
        let verdict = self.decide_part(on_trial)?;
        if !matches!(verdict, Verdict::Passed) || !has_followers(self.catalog, on_trial.resource) {
            return Ok(verdict);
        }
        self.start_followers(on_trial.resource)?;
        self.decide_part(on_trial)
    }

    fn decide_part(&mut self, on_trial: &OnTrial<'a>) -> Result<Verdict, RootError> {
        let outcome = match self.readiness(on_trial.resource) {
            TrialReadiness::NotReady(why) => {
                let hint = "the next pass continues once that is fixed";
                return Ok(Verdict::Open(Failure::new(why).hint(hint)));
            }
            TrialReadiness::Waiting(why) => return Ok(Verdict::Waiting(why)),
            TrialReadiness::Stopped => return Ok(Verdict::Stopped),
            TrialReadiness::DependentFailed(failure) => self.failed_or_conflict(on_trial, failure),
            TrialReadiness::Ready => match self.run_gate(on_trial) {
                Ok(outcome) => outcome,
                Err(failure) => return Ok(Verdict::Open(failure)),
            },
        };
        Ok(match outcome {
            TrialOutcome::Passed => Verdict::Passed,
            TrialOutcome::Failed(failure) => Verdict::Failed(failure),
            TrialOutcome::Stopped => Verdict::Stopped,
            TrialOutcome::Conflict(failure) => {
                self.record_owed_restarts(on_trial.resource)?;
                Verdict::Open(failure)
            }
        })
    }

    fn confirm(&mut self, on_trial: &OnTrial<'a>) -> TrialEnd {
        let proven = format!("{} is proven", on_trial.trial.release);
        self.announce(on_trial.resource, &proven);
        let crashes = most_crashes(self.catalog, on_trial.resource, self.host);
        let recorded = release::record_proven(on_trial.spec, self.host)
            .and_then(|()| release::record_crashes(on_trial.spec, self.host, crashes));
        if let Err(failure) = recorded {
            return TrialEnd::Unresolved(failure);
        }
        self.view.forget();
        match self.view.observe(on_trial.resource) {
            // Anything but another deployment is a later matter: the next release to build ahead, say.
            Ok(observed) => match observed
                .change()
                .filter(|change| change.verb == Verb::Deploy)
            {
                Some(change) => TrialEnd::ProvenUnwanted(change.clone()),
                None => TrialEnd::Proven,
            },
            Err(failure) => TrialEnd::Unresolved(failure),
        }
    }

    /// Adds the log tail of each service that uses the release, before a restart loses it.
    pub(super) fn with_log_tails(&self, resource: &Resource, failure: Failure) -> Failure {
        // The failure of a service that did not start contains its output already.
        if failure.quotes_output {
            return failure;
        }
        let mut failure = failure;
        for (dependent, service) in services_of(self.catalog, resource) {
            let tail = service.log_tail(self.host);
            if !tail.is_empty() {
                let tail = block_quote(&tail.join("\n"));
                let detail = format!("\n{} printed last:\n{tail}", dependent.id);
                failure = failure.with_detail(&detail);
            }
        }
        failure
    }

    pub(super) fn announce(&mut self, resource: &Resource, message: &str) {
        (self.on_event)(Event::TrialProgress {
            id: &resource.id,
            message,
        });
    }

    fn run_gate(&mut self, on_trial: &OnTrial<'a>) -> Result<TrialOutcome, Failure> {
        if let Some(crashed) = &on_trial.trial.crashed {
            return Ok(TrialOutcome::Failed(Failure::permanent(crashed)));
        }
        let (catalog, host) = (self.catalog, self.host);
        let with_followers = self.followers.is_gate_open(on_trial.resource);
        let services = services_of(catalog, on_trial.resource);
        let services = services.filter(|(resource, _)| with_followers || !is_follower(resource));
        let services = services.collect();
        let mut check_services = service_checks(services, &on_trial.trial, host);
        if with_followers {
            return Ok(release::poll_services(
                on_trial.spec,
                host,
                &mut check_services,
            ));
        }
        let runs_as = || catalog.runs_as(&on_trial.resource.id, host);
        release::poll_gate(on_trial.spec, host, &mut check_services, &runs_as)
    }

    /// A service that cannot be started proves the release bad, unless another program is in its way.
    fn failed_or_conflict(&self, on_trial: &OnTrial<'a>, failure: Failure) -> TrialOutcome {
        let runs_as = || self.catalog.runs_as(&on_trial.resource.id, self.host);
        match release::port_conflict(on_trial.spec, self.host, &runs_as) {
            Some(conflict) => TrialOutcome::Conflict(conflict),
            None => TrialOutcome::Failed(failure),
        }
    }

    /// Marks a restart as owed to each dependent: a service that met a conflict may run without what it could not
    /// get (a port, say), so the next pass restarts it.
    fn record_owed_restarts(&self, resource: &Resource) -> Result<(), RootError> {
        for dependent in self.catalog.dependents(&resource.id) {
            self.record_owed_restart(dependent, resource)?;
        }
        Ok(())
    }

    pub(super) fn record_owed_restart(
        &self,
        dependent: &Resource,
        cause: &Resource,
    ) -> Result<(), RootError> {
        let Some(mut record) = self.records.read(&dependent.id) else {
            return Ok(());
        };
        record.mark_owed(Duty::Restart, &cause.id);
        self.records.write(&dependent.id, &record)
    }
}
