//! What follows a failed trial: the last good release is restored, its services are restarted, and it has to show that
//! it works as well.

use super::readiness::TrialReadiness;
use super::trial::{OnTrial, TrialEnd};
use super::{AppliedResource, Applier, Event, LIFT_HINT, ResourceResult};
use crate::owed::Obligation;
use crate::ports::root::RootError;
use crate::release::{self, RollbackOutcome};
use crate::resource::{Duty, Failure, Trial, TrialOutcome};
use crate::role::Resource;

/// Whether the release that was rolled back to works.
enum RestoredState {
    Proven,
    /// There is no verdict yet, for this reason: the next pass continues.
    Unproven(String),
    Failed(Failure),
}

/// The hint of the cause, followed by what to do then.
fn after_hint(cause: &Failure, hint: &str) -> String {
    match &cause.hint {
        Some(cause) => format!("{cause}; then {hint}"),
        None => hint.to_owned(),
    }
}

impl<'a> Applier<'a> {
    /// Restores the last good release, and proves that it works.
    pub(super) fn roll_back(
        &mut self,
        on_trial: &OnTrial<'a>,
        why: &Failure,
    ) -> Result<TrialEnd, RootError> {
        let (resource, bad) = (on_trial.resource, &on_trial.trial.release);
        self.announce(resource, &format!("{bad} failed: {}", why.summary()));
        let restored = match release::restore_previous(on_trial.spec, self.host, why) {
            Ok(RollbackOutcome::RolledBack(restored)) => restored,
            Ok(RollbackOutcome::NoTarget) => {
                let failure = Failure::new(format!(
                    "{bad} failed, and there is no good release to go back to: {}",
                    why.message
                ));
                let hint = "it stays active and on trial: the next pass asks it again, or publish a sha that works";
                return Ok(TrialEnd::Failed(failure.hint(after_hint(why, hint))));
            }
            Ok(RollbackOutcome::MarkedBad) => {
                let failure = Failure::new(format!(
                    "{bad}, to which it was rolled back, failed too: {}",
                    why.message
                ));
                let hint = "it stays active; publish a sha that works";
                return Ok(TrialEnd::RolledBack(failure.hint(after_hint(why, hint))));
            }
            Err(failure) => {
                let message = format!(
                    "{}; and it cannot be rolled back: {}",
                    why.message, failure.message
                );
                return Ok(TrialEnd::Failed(Failure { message, ..failure }));
            }
        };
        self.announce(resource, &format!("rolls back to {restored}"));
        self.restart_after_rollback(resource)?;
        let hint = after_hint(why, LIFT_HINT);
        let (summary, why) = (why.summary(), &why.message);
        Ok(match self.prove_restored(on_trial, &restored)? {
            RestoredState::Proven => TrialEnd::RolledBack(
                Failure::new(format!("{bad} failed and {restored} is back: {why}")).hint(hint),
            ),
            RestoredState::Unproven(reason) => TrialEnd::RolledBack(
                Failure::new(format!(
                    "{bad} failed and {restored} is back, but not proven yet: {why}"
                ))
                .hint(format!(
                    "{reason}; the next pass continues with the release that is back"
                )),
            ),
            RestoredState::Failed(failure) => TrialEnd::Failed(Failure {
                message: format!(
                    "it failed ({summary}), and {restored}, to which it was rolled back, is unhealthy too: {}",
                    failure.message
                ),
                ..failure
            }),
        })
    }

    /// Runs the trial of a restored release.
    fn prove_restored(
        &mut self,
        on_trial: &OnTrial<'a>,
        restored: &str,
    ) -> Result<RestoredState, RootError> {
        let trial = Trial {
            release: restored.to_owned(),
            ..on_trial.trial.clone()
        };
        let outcome = match self.readiness(on_trial.resource) {
            TrialReadiness::NotReady(why) | TrialReadiness::Waiting(why) => {
                return Ok(RestoredState::Unproven(why));
            }
            TrialReadiness::Stopped => Ok(TrialOutcome::Stopped),
            TrialReadiness::DependentFailed(failure) => {
                Ok(self.failed_or_conflict(on_trial, failure))
            }
            TrialReadiness::Ready => self.run_gate(on_trial, &trial),
        };
        Ok(match outcome {
            Ok(TrialOutcome::Passed) => match release::record_proven(on_trial.spec, self.host) {
                Ok(()) => RestoredState::Proven,
                Err(failure) => RestoredState::Failed(failure),
            },
            Ok(TrialOutcome::Stopped) => {
                RestoredState::Unproven("trueup was asked to stop".to_owned())
            }
            Ok(TrialOutcome::Conflict(failure)) => {
                self.record_owed_restarts(on_trial.resource)?;
                RestoredState::Failed(failure)
            }
            Ok(TrialOutcome::Failed(failure)) => {
                // It stays active: there is no third release to try.
                if let Err(error) = release::mark_bad(on_trial.spec, self.host, &failure) {
                    tracing::warn!("cannot mark {restored} as failed: {error}");
                }
                RestoredState::Failed(failure)
            }
            Err(failure) => RestoredState::Failed(failure),
        })
    }

    /// Restarts every dependent from the restored release, whether it runs, crash-loops or never started; not one that
    /// an operator masked, or that should not run and does not.
    fn restart_after_rollback(&mut self, resource: &'a Resource) -> Result<(), RootError> {
        self.view.forget();
        self.view.refresh_stamp(resource);
        for dependent in self.catalog.dependents(&resource.id) {
            let entry = self.results.get(&*dependent.id);
            let is_held =
                |entry: &AppliedResource| matches!(entry.result, ResourceResult::Waiting(..));
            if entry.is_none_or(is_held) || !self.view.may_restart(dependent) {
                continue;
            }
            let failed = self.restart_dependent(dependent, resource);
            let entry = self.result_mut(dependent);
            let changed = match entry.take_result() {
                ResourceResult::Failed(Some(change), _) | ResourceResult::Changed(change) => {
                    ResourceResult::Changed(change)
                }
                _ => ResourceResult::Unchanged,
            };
            entry.result = match &failed {
                Some(failure) => ResourceResult::Failed(None, failure.clone()),
                None => changed,
            };
            entry.duty_failure = failed;
            let run = self.view.run(dependent);
            if run.is_some() {
                self.update_record(dependent, run.as_ref(), &[Duty::Restart, Duty::Reload])?;
            }
        }
        Ok(())
    }

    /// Fulfills the duties of a dependent of a restored release; returns the last failure.
    fn restart_dependent(&mut self, dependent: &Resource, restored: &Resource) -> Option<Failure> {
        self.result_mut(dependent).owed.clear();
        let triggers = dependent.triggers.iter();
        let mut failed = None;
        for trigger in triggers.filter(|trigger| trigger.on.contains(&restored.id)) {
            let obligation = Obligation {
                duty: trigger.duty,
                causes: vec![restored.id.clone()],
            };
            (self.on_event)(Event::DutyStarted {
                id: &dependent.id,
                obligation: &obligation,
            });
            match self.perform(dependent, trigger.duty) {
                Ok(()) => self.result_mut(dependent).fulfilled.push(obligation),
                Err(failure) => failed = Some(failure),
            }
        }
        failed
    }
}
