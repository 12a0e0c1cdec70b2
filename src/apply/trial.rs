//! Trials: a release that was put into service has to show that it works, or the earlier one is restored.
//!
//! By now all duties of the changes are done, so every process that uses a release on trial was restarted. A
//! service that could not be restarted for a reason of its own (a config that failed its check, say) leaves
//! the trial open, because that says nothing about the release.

use std::collections::BTreeMap;

use super::{AppliedResource, Applier, Event, LIFT_HINT, ResourceResult, resource_span};
use crate::ports::root::RootError;
use crate::resource::{Change, Duty, Failure, FieldValue, Trial, TrialOutcome};
use crate::role::{Catalog, Resource};

/// The result of a trial, which still lacks the change that led to it.
type TrialResult = Box<dyn FnOnce(Change) -> ResourceResult>;

/// Whether the results of the pass so far allow a trial to run.
enum TrialReadiness {
    /// Everything that uses it was started or restarted.
    Ready,
    /// One of its users cannot be started with it.
    UserFailed(Failure),
    /// There can be no verdict yet.
    NotReady(String),
    /// There can be no verdict before an operator lets one of its users run.
    Waiting(String),
}

impl Applier<'_> {
    /// Runs every open trial to its end.
    pub(super) fn finish_trials(
        &mut self,
        catalog: &Catalog,
        shas: &BTreeMap<String, String>,
        done: &mut [AppliedResource],
    ) -> std::result::Result<(), RootError> {
        for at in 0..done.len() {
            let Some(resource) = catalog.find(&done[at].id) else {
                continue;
            };
            let _told = resource_span(resource, catalog, shas).entered();
            let seen = resource.body.inspect(self.host, resource.watched);
            if let Some(trial) = seen.ok().and_then(|seen| seen.trial) {
                let result = self.finish_trial(resource, &trial, catalog, done)?;
                if let Some(result) = result {
                    let change = into_change(std::mem::replace(
                        &mut done[at].result,
                        ResourceResult::Unchanged,
                    ));
                    done[at].result = result(change);
                }
            }
        }
        Ok(())
    }

    /// Finishes the trial of one resource; `None` if its result so far stands.
    #[allow(
        clippy::type_complexity,
        reason = "a result that still lacks its change"
    )]
    fn finish_trial(
        &mut self,
        resource: &Resource,
        trial: &Trial,
        catalog: &Catalog,
        done: &mut [AppliedResource],
    ) -> std::result::Result<Option<TrialResult>, RootError> {
        let body = &resource.body;
        let verdict = match self.trial_readiness(resource, catalog, done) {
            TrialReadiness::NotReady(why) => {
                let failure =
                    Failure::new(format!("{} has not passed its gate: {why}", trial.release))
                        .hint("the next pass continues once that is fixed");
                return Ok(Some(Box::new(|change| {
                    ResourceResult::Failed(Some(change), failure)
                })));
            }
            TrialReadiness::Waiting(why) => {
                let why = format!("{} has not passed its gate: {why}", trial.release);
                return Ok(Some(Box::new(|change| {
                    ResourceResult::Waiting(change, why)
                })));
            }
            TrialReadiness::UserFailed(failure) => match self.find_conflict(resource, catalog) {
                Some(failure) => TrialOutcome::Conflict(failure),
                None => TrialOutcome::Failed(failure),
            },
            TrialReadiness::Ready => match self.run_trial(resource, trial, catalog) {
                Ok(verdict) => verdict,
                Err(failure) => {
                    return Ok(Some(Box::new(|change| {
                        ResourceResult::Failed(Some(change), failure)
                    })));
                }
            },
        };
        let why = match verdict {
            TrialOutcome::Stopped => {
                let why = "stopped on request; the next pass continues from here".to_owned();
                return Ok(Some(Box::new(|_| ResourceResult::Skipped(why))));
            }
            TrialOutcome::Passed => {
                self.announce(&resource.id, &format!("{} is proven", trial.release));
                return Ok(match body.confirm(self.host) {
                    Ok(()) => self
                        .remaining_result(resource)
                        .map(|result| -> TrialResult { Box::new(|_| result) }),
                    Err(failure) => Some(Box::new(|change| {
                        ResourceResult::Failed(Some(change), failure)
                    })),
                });
            }
            TrialOutcome::Conflict(why) => {
                self.record_owed_restarts(resource, catalog)?;
                let why = Failure {
                    message: format!("{} has not passed its gate: {}", trial.release, why.message),
                    ..why
                };
                return Ok(Some(Box::new(|change| {
                    ResourceResult::Failed(Some(change), why)
                })));
            }
            TrialOutcome::Failed(why) => self.with_log_tail(resource, catalog, why),
        };
        self.announce(
            &resource.id,
            &format!("{} failed: {}", trial.release, first_line(&why)),
        );
        let back = match body.roll_back(self.host, &why) {
            Ok(back) => back,
            Err(failure) => {
                let failure = Failure::new(format!(
                    "{}; and it cannot be rolled back: {}",
                    why.message, failure.message
                ));
                return Ok(Some(Box::new(|change| {
                    ResourceResult::Failed(Some(change), failure)
                })));
            }
        };
        let Some(back) = back else {
            let failure = Failure::new(format!(
                "{} failed, and there is no good release to go back to: {}",
                trial.release, why.message
            ))
            .hint("nothing was changed; publish a sha that works");
            return Ok(Some(Box::new(|change| {
                ResourceResult::RolledBack(change, failure)
            })));
        };
        self.announce(&resource.id, &format!("rolls back to {back}"));
        self.restart_after_rollback(resource, catalog, done)?;
        let tried = trial.release.clone();
        let restored = Trial {
            release: back.clone(),
            ..trial.clone()
        };
        let again = match self.trial_readiness(resource, catalog, done) {
            TrialReadiness::NotReady(why) | TrialReadiness::Waiting(why) => {
                Ok(TrialOutcome::Failed(Failure::new(why)))
            }
            TrialReadiness::UserFailed(failure) => {
                Ok(match self.find_conflict(resource, catalog) {
                    Some(failure) => TrialOutcome::Conflict(failure),
                    None => TrialOutcome::Failed(failure),
                })
            }
            TrialReadiness::Ready => self.run_trial(resource, &restored, catalog),
        };
        let settled = match again {
            Ok(TrialOutcome::Passed) => body.confirm(self.host),
            Ok(TrialOutcome::Stopped) => Ok(()),
            Ok(TrialOutcome::Conflict(failure)) => {
                self.record_owed_restarts(resource, catalog)?;
                Err(failure)
            }
            Ok(TrialOutcome::Failed(failure)) => {
                // It stays active, now marked as failed: there is no third release to try.
                let _ = body.roll_back(self.host, &failure);
                Err(failure)
            }
            Err(failure) => Err(failure),
        };
        Ok(Some(Box::new(move |change| match settled {
            Ok(()) => ResourceResult::RolledBack(
                change,
                Failure::new(format!(
                    "{tried} failed and {back} is back: {}",
                    first_line(&why)
                ))
                .hint(LIFT_HINT),
            ),
            Err(failure) => ResourceResult::Failed(
                Some(change),
                Failure::new(format!(
                    "it failed ({}), and {back}, to which it was rolled back, is unhealthy too: {}",
                    first_line(&why),
                    failure.message
                )),
            ),
        })))
    }

    /// The result if the proven release is not the wanted one: a pass that was killed while it rolled back a
    /// bad release leaves a good one on trial.
    fn remaining_result(&self, resource: &Resource) -> Option<ResourceResult> {
        let seen = resource.body.inspect(self.host, false).ok()?;
        let change = seen.change?;
        let barred = change
            .fields
            .iter()
            .find(|field| field.field == "quarantine");
        Some(match barred.map(|field| &field.to) {
            Some(FieldValue::Value(words)) => {
                let failure = Failure::new(words.clone());
                ResourceResult::RolledBack(change, failure.hint(LIFT_HINT))
            }
            _ => ResourceResult::Waiting(change, "the next pass continues with it".into()),
        })
    }

    /// Adds the log tail of the resource's users to a trial's failure, before a restart loses it.
    fn with_log_tail(&self, resource: &Resource, catalog: &Catalog, why: Failure) -> Failure {
        // The failure of a service that did not start contains its output already.
        if why.message.contains('\n') {
            return why;
        }
        let mut why = why;
        for user in catalog.dependents(&resource.id) {
            let words = user.body.log_tail(self.host);
            if !words.is_empty() {
                why = why.with_detail(&format!(
                    "\n{} printed last:\n{}",
                    user.id,
                    words.join("\n")
                ));
            }
        }
        why
    }

    fn announce(&mut self, id: &str, message: &str) {
        (self.on_event)(Event::TrialProgress { id, message });
    }

    /// How the users of a resource fared in this pass.
    fn trial_readiness(
        &self,
        resource: &Resource,
        catalog: &Catalog,
        done: &[AppliedResource],
    ) -> TrialReadiness {
        if self.host.stop.is_set() {
            return TrialReadiness::Ready;
        }
        for entry in dependent_results(resource, catalog, done) {
            let started = |change: &Change| change.touches("running");
            match &entry.result {
                ResourceResult::Failed(Some(change), failure) if started(change) => {
                    return TrialReadiness::UserFailed(failure.clone());
                }
                ResourceResult::Failed(..) if entry.duty_failure.is_some() => {
                    return TrialReadiness::UserFailed(
                        entry.duty_failure.clone().expect("seen just now"),
                    );
                }
                ResourceResult::Failed(_, failure) => {
                    return TrialReadiness::NotReady(format!("{}: {}", entry.id, failure.message));
                }
                ResourceResult::Skipped(why) => {
                    return TrialReadiness::NotReady(format!("{}: {why}", entry.id));
                }
                ResourceResult::Waiting(_, why) => {
                    return TrialReadiness::Waiting(format!("{}: {why}", entry.id));
                }
                _ => {}
            }
            let of_it = |debt: &crate::owed::Obligation| debt.causes.contains(&resource.id);
            if let Some((debt, why)) = entry.owed.iter().find(|(debt, _)| of_it(debt)) {
                return TrialReadiness::NotReady(format!(
                    "{} of {} is still owed: {why}",
                    debt.duty, entry.id
                ));
            }
        }
        TrialReadiness::Ready
    }

    fn run_trial(
        &self,
        resource: &Resource,
        trial: &Trial,
        catalog: &Catalog,
    ) -> std::result::Result<TrialOutcome, Failure> {
        let users: Vec<&Resource> = catalog.dependents(&resource.id).collect();
        let mut all = || {
            users
                .iter()
                .try_for_each(|user| user.body.check_runs_from(self.host, trial))
        };
        let runs_as = || catalog.runs_as(&resource.id, self.host);
        resource.body.run_trial(self.host, &mut all, &runs_as)
    }

    fn find_conflict(&self, resource: &Resource, catalog: &Catalog) -> Option<Failure> {
        let runs_as = || catalog.runs_as(&resource.id, self.host);
        resource.body.find_conflict(self.host, &runs_as)
    }

    /// Marks a restart as owed to each user: a service that met a conflict may run without what it could not
    /// get (a port, say), so the next pass restarts it.
    fn record_owed_restarts(
        &self,
        resource: &Resource,
        catalog: &Catalog,
    ) -> std::result::Result<(), RootError> {
        for user in catalog.dependents(&resource.id) {
            if let Some(mut record) = self.ledger.read(&user.id) {
                record.mark_owed(Duty::Restart, &resource.id);
                self.ledger.write(&user.id, &record)?;
            }
        }
        Ok(())
    }

    /// Restarts every user from the restored release, whether it runs, crash-loops or never started.
    fn restart_after_rollback(
        &mut self,
        resource: &Resource,
        catalog: &Catalog,
        done: &mut [AppliedResource],
    ) -> std::result::Result<(), RootError> {
        if let Ok(seen) = resource.body.inspect(self.host, resource.watched) {
            self.set_stamp(&resource.id, seen.stamp);
        }
        for user in catalog.dependents(&resource.id) {
            let Some(entry) = done.iter_mut().find(|entry| entry.id == user.id) else {
                continue;
            };
            let result = std::mem::replace(&mut entry.result, ResourceResult::Unchanged);
            entry.duty_failure = None;
            entry.owed.clear();
            let duties = user
                .triggers
                .iter()
                .filter(|trigger| trigger.on.contains(&resource.id));
            let mut failed = None;
            for trigger in duties {
                let debt = crate::owed::Obligation {
                    duty: trigger.duty,
                    causes: vec![resource.id.clone()],
                };
                (self.on_event)(Event::DutyStarted {
                    id: &user.id,
                    obligation: &debt,
                });
                match user.body.fulfill(trigger.duty, self.host) {
                    Ok(()) => entry.fulfilled.push(debt),
                    Err(failure) => failed = Some(failure),
                }
            }
            let run = user
                .body
                .inspect(self.host, user.watched)
                .ok()
                .and_then(|seen| seen.run);
            entry.result = match failed {
                Some(failure) => {
                    entry.duty_failure = Some(failure.clone());
                    ResourceResult::Failed(None, failure)
                }
                None => match result {
                    ResourceResult::Failed(Some(change), _) | ResourceResult::Changed(change) => {
                        ResourceResult::Changed(change)
                    }
                    _ => ResourceResult::Unchanged,
                },
            };
            if run.is_some() {
                self.update_record(user, run.as_ref(), &[Duty::Restart, Duty::Reload])?;
            }
        }
        Ok(())
    }
}

fn dependent_results<'d>(
    resource: &Resource,
    catalog: &Catalog,
    done: &'d [AppliedResource],
) -> impl Iterator<Item = &'d AppliedResource> {
    let ids: Vec<String> = catalog
        .dependents(&resource.id)
        .map(|user| user.id.clone())
        .collect();
    done.iter().filter(move |entry| ids.contains(&entry.id))
}

fn into_change(result: ResourceResult) -> Change {
    match result {
        ResourceResult::Changed(change)
        | ResourceResult::Waiting(change, _)
        | ResourceResult::RolledBack(change, _)
        | ResourceResult::Failed(Some(change), _) => change,
        ResourceResult::Unchanged
        | ResourceResult::Skipped(_)
        | ResourceResult::Failed(None, _) => Change::new(crate::resource::Verb::Prove),
    }
}

fn first_line(failure: &Failure) -> &str {
    failure.message.lines().next().unwrap_or_default()
}
