//! What follows a failed trial: the last good release is restored, its services are restarted, and it has to show that
//! it works as well.

use super::trial::{OnTrial, TrialEnd, Verdict};
use super::{AppliedResource, Applier, Event, LIFT_HINT, ResourceResult, after_hint};
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
        let failed = format!("{bad} failed: {}", why.summary());
        self.announce(resource, &failed);
        (self.on_event)(Event::ReleaseFailed {
            id: &resource.id,
            why: &failed,
            is_bad: true,
        });
        self.followers.close_gate(resource);
        release::note_failure(on_trial.spec, self.host, why);
        let message = match release::restore_previous(on_trial.spec, self.host, why) {
            Ok(RollbackOutcome::RolledBack(restored)) => {
                self.announce(resource, &format!("rolls back to {restored}"));
                self.restart_after_rollback(resource)?;
                return self.prove_restored(on_trial, restored, why);
            }
            Ok(RollbackOutcome::NoTarget) => format!(
                "{bad} failed, and there is no good release to go back to: {}",
                why.message
            ),
            Ok(RollbackOutcome::RestoredIsUnhealthy) => {
                let message = format!(
                    "{bad}, which was restored, is unhealthy too: {}",
                    why.message
                );
                return self.end_without_good_release(on_trial, &message, why);
            }
            Err(failure) => {
                let message = format!(
                    "{}; and it cannot be rolled back: {}",
                    why.message, failure.message
                );
                return Ok(TrialEnd::Unresolved(Failure { message, ..failure }));
            }
        };
        let hint = after_hint(why, STAYS_ON_TRIAL);
        Ok(TrialEnd::Unresolved(Failure::new(message).hint(hint)))
    }

    /// Runs the trial of the release that was restored, because of `why`.
    fn prove_restored(
        &mut self,
        failed: &OnTrial<'a>,
        restored: String,
        why: &Failure,
    ) -> Result<TrialEnd, RootError> {
        let bad = &failed.trial.release;
        let on_trial = OnTrial {
            trial: Trial {
                release: restored,
                crashed: None,
                ..failed.trial.clone()
            },
            ..*failed
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
        Ok(match self.decide(&on_trial)? {
            Verdict::Passed => match release::record_proven(on_trial.spec, self.host) {
                Ok(()) => TrialEnd::RolledBack(
                    Failure::new(format!(
                        "{bad} failed and {restored} is back: {}",
                        why.message
                    ))
                    .hint(after_hint(why, LIFT_HINT)),
                ),
                Err(failure) => TrialEnd::Unresolved(failure),
            },
            Verdict::Failed(failure) => {
                let message = format!(
                    "{bad} failed ({}), and {restored}, to which it was rolled back, is unhealthy too: {}",
                    why.summary(),
                    failure.message
                );
                self.end_without_good_release(&on_trial, &message, &failure)?
            }
            Verdict::Stopped => undecided("trueup was asked to stop"),
            Verdict::Waiting(why) => undecided(&why),
            Verdict::Open(failure) => undecided(&failure.message),
        })
    }

    /// Ends the trial of a restored release that fails as well. A new release that had passed its gate before becomes
    /// active again, because both seem to miss something else.
    fn end_without_good_release(
        &mut self,
        restored: &OnTrial<'a>,
        message: &str,
        failure: &Failure,
    ) -> Result<TrialEnd, RootError> {
        self.followers.close_gate(restored.resource);
        match release::undo_rollback(restored.spec, self.host) {
            Ok(None) => {}
            Ok(Some(newer)) => {
                let fails = &restored.trial.release;
                let progress = format!("goes forward to {newer} again: {fails} fails as well");
                self.announce(restored.resource, &progress);
                self.restart_after_rollback(restored.resource)?;
            }
            Err(failure) => tracing::warn!("the rollback cannot be undone: {failure}"),
        }
        let hint = after_hint(failure, STAYS_ON_TRIAL);
        Ok(TrialEnd::Unresolved(Failure::new(message).hint(hint)))
    }

    /// Restarts every dependent from the restored release, whether it runs, crash-loops or never started; not one that
    /// an operator masked, or that should not run and does not. A follower that waits still runs from the restored
    /// release, or starts after its gate.
    fn restart_after_rollback(&mut self, resource: &'a Resource) -> Result<(), RootError> {
        self.view.forget();
        self.view.refresh_stamp(resource);
        for dependent in self.catalog.dependents(&resource.id) {
            let entry = self.results.get(&*dependent.id);
            let is_held =
                |entry: &AppliedResource| matches!(entry.result, ResourceResult::Waiting(..));
            if entry.is_none_or(is_held)
                || self.followers.is_deferred(dependent)
                || !self.view.may_restart(dependent)
            {
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
        dependent: &'a Resource,
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
            match self.perform_recorded(dependent, obligation) {
                Ok(done) => fulfilled.extend(done),
                Err(failure) => failed = Some(failure),
            }
        }
        (fulfilled, failed)
    }
}
