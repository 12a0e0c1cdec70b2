//! What follows a failed trial: the last good release is restored, its services are restarted, and it has to show that
//! it works as well.

use super::duties::done_by;
use super::trial::{OnTrial, TrialEnd, Verdict};
use super::{AppliedResource, Applier, Event, LIFT_HINT, ResourceResult};
use crate::owed::Obligation;
use crate::ports::root::RootError;
use crate::release::{self, RollbackOutcome};
use crate::resource::{Duty, Failure, Trial};
use crate::role::Resource;

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
                let message = format!(
                    "{bad}, to which it was rolled back, is unhealthy too: {}",
                    why.message
                );
                let hint = after_hint(why, "it stays active; publish a sha that works");
                return Ok(TrialEnd::Failed(Failure::new(message).hint(hint)));
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
        self.prove_restored(on_trial, restored, why)
    }

    /// Runs the trial of the release that was rolled back to, because of `why`.
    fn prove_restored(
        &mut self,
        on_trial: &OnTrial<'a>,
        restored: String,
        why: &Failure,
    ) -> Result<TrialEnd, RootError> {
        let bad = &on_trial.trial.release;
        let on_trial = OnTrial {
            trial: Trial {
                release: restored,
                ..on_trial.trial.clone()
            },
            ..*on_trial
        };
        let restored = &on_trial.trial.release;
        let unproven = |reason: &str| {
            let message = format!(
                "{bad} failed and {restored} is back, but not proven yet: {}",
                why.message
            );
            let hint = format!("{reason}; the next pass continues with the release that is back");
            TrialEnd::RolledBack(Failure::new(message).hint(hint))
        };
        let unhealthy = |failure: Failure| {
            let message = format!(
                "it failed ({}), and {restored}, to which it was rolled back, is unhealthy too: {}",
                why.summary(),
                failure.message
            );
            TrialEnd::Failed(Failure { message, ..failure })
        };
        Ok(match self.decide(&on_trial)? {
            Verdict::Passed => match release::record_proven(on_trial.spec, self.host) {
                Ok(()) => TrialEnd::RolledBack(
                    Failure::new(format!(
                        "{bad} failed and {restored} is back: {}",
                        why.message
                    ))
                    .hint(after_hint(why, LIFT_HINT)),
                ),
                Err(failure) => unhealthy(failure),
            },
            Verdict::Failed(failure) => {
                // It stays active: there is no third release to try.
                if let Err(error) = release::mark_bad(on_trial.spec, self.host, &failure) {
                    tracing::warn!("cannot mark {restored} as failed: {error}");
                }
                unhealthy(failure)
            }
            Verdict::Stopped => unproven("trueup was asked to stop"),
            Verdict::Waiting(why) => unproven(&why),
            Verdict::Open(failure) => unproven(&failure.message),
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
            let (fulfilled, failed) = self.restart_dependent(dependent, resource);
            let entry = self.result_mut(dependent);
            entry.result = match (&failed, entry.take_result().into_change()) {
                (Some(failure), _) => ResourceResult::Failed(None, failure.clone()),
                (None, Some(change)) => ResourceResult::Changed(change),
                (None, None) => ResourceResult::Unchanged,
            };
            entry.duty_failure = failed;
            self.record_fulfilled(dependent, &fulfilled)?;
        }
        Ok(())
    }

    /// Fulfills the duties of a dependent of a restored release; returns those that are done, and the last failure.
    fn restart_dependent(
        &mut self,
        dependent: &Resource,
        restored: &Resource,
    ) -> (Vec<Duty>, Option<Failure>) {
        self.result_mut(dependent).owed.clear();
        let triggers = dependent.triggers.iter();
        let (mut fulfilled, mut failed) = (Vec::new(), None);
        for trigger in triggers.filter(|trigger| trigger.on.contains(&restored.id)) {
            let obligation = Obligation {
                duty: trigger.duty,
                causes: vec![restored.id.clone()],
            };
            (self.on_event)(Event::DutyStarted {
                id: &dependent.id,
                obligation: &obligation,
            });
            let result = self.perform(dependent, trigger.duty);
            let entry = self.result_mut(dependent);
            match result {
                Ok(()) => {
                    entry.fulfilled.push(obligation);
                    fulfilled.extend(done_by(trigger.duty));
                }
                Err(failure) => {
                    entry.owed.push((obligation, failure.message.clone()));
                    failed = Some(failure);
                }
            }
        }
        (fulfilled, failed)
    }
}
