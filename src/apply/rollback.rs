//! What follows a failed trial: the last good release is restored, its services are restarted, and it has to show that
//! it works as well.

use super::trial::{OnTrial, TrialEnd, Verdict};
use super::{AppliedResource, Applier, LIFT_HINT, ResourceResult, after_hint};
use crate::owed::Obligation;
use crate::ports::root::RootError;
use crate::release::{self, RollbackOutcome};
use crate::resource::{Duty, Failure, Trial};
use crate::role::Resource;

/// What to do about a release that failed and has none behind it.
const STAYS_ON_TRIAL: &str =
    "it stays active and on trial: the next pass asks it again, or publish a sha that works";

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
                return Ok(TrialEnd::Unresolved(
                    failure.hint(after_hint(why, STAYS_ON_TRIAL)),
                ));
            }
            Ok(RollbackOutcome::RestoredIsUnhealthy) => {
                let message = format!(
                    "{bad}, to which it was rolled back, is unhealthy too: {}",
                    why.message
                );
                let hint = after_hint(why, STAYS_ON_TRIAL);
                return Ok(TrialEnd::Unresolved(Failure::new(message).hint(hint)));
            }
            Err(failure) => {
                let message = format!(
                    "{}; and it cannot be rolled back: {}",
                    why.message, failure.message
                );
                return Ok(TrialEnd::Unresolved(Failure { message, ..failure }));
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
        let undecided = |reason: &str| {
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
            let hint = after_hint(&failure, STAYS_ON_TRIAL);
            TrialEnd::Unresolved(Failure { message, ..failure }.hint(hint))
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
            Verdict::Failed(failure) => unhealthy(failure),
            Verdict::Stopped => undecided("trueup was asked to stop"),
            Verdict::Waiting(why) => undecided(&why),
            Verdict::Open(failure) => undecided(&failure.message),
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
            self.result_mut(dependent).record_restart(failed);
            self.record_fulfilled(dependent, &fulfilled)?;
        }
        Ok(())
    }

    /// Fulfills the duties of a dependent of a restored release; returns those that are done, and the last failure.
    /// No check of other files prevents that: the processes of the bad release must not stay.
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
            match self.perform(dependent, obligation) {
                Ok(done) => fulfilled.extend(done),
                Err(failure) => failed = Some(failure),
            }
        }
        (fulfilled, failed)
    }
}
