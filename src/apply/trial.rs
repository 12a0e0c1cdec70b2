//! Trials: what was put into service has to show that it works, or what was there before comes back.
//!
//! By now everything that a change made necessary has been done, so whatever runs from a release on
//! trial was restarted. What could not be restarted for a reason of its own (a config that did not
//! pass its check, say) leaves the trial open: that says nothing about the release.

use std::collections::BTreeMap;

use super::{Done, Event, LIFT, Result, Walk, span};
use crate::ports::root::RootError;
use crate::resource::{Change, Duty, Failure, Shown, Trial, Verdict};
use crate::role::{Catalog, Resource};

/// What became of a trial, but for the change that it came with.
type Settled = Box<dyn FnOnce(Change) -> Result>;

/// What the pass so far says about a trial.
enum So {
    /// Everything that uses it was started or restarted.
    Restarted,
    /// One of its users cannot be started with it.
    Broken(Failure),
    /// It cannot be judged yet.
    Open(String),
    /// Nor before somebody lets one of its users run.
    Waits(String),
}

impl Walk<'_> {
    /// Brings every trial of the list to its end.
    pub(super) fn trials(
        &mut self,
        catalog: &Catalog,
        shas: &BTreeMap<String, String>,
        done: &mut [Done],
    ) -> std::result::Result<(), RootError> {
        for at in 0..done.len() {
            let Some(resource) = catalog.find(&done[at].id) else {
                continue;
            };
            let _told = span(resource, catalog, shas).entered();
            let seen = resource.body.look(self.host, resource.watched);
            if let Some(trial) = seen.ok().and_then(|seen| seen.trial) {
                let result = self.trial(resource, &trial, catalog, done)?;
                if let Some(result) = result {
                    let change = change_of(std::mem::replace(&mut done[at].result, Result::Right));
                    done[at].result = result(change);
                }
            }
        }
        Ok(())
    }

    /// What becomes of a resource on trial; `None`: what was said of it stands.
    #[allow(
        clippy::type_complexity,
        reason = "a result that still lacks its change"
    )]
    fn trial(
        &mut self,
        resource: &Resource,
        trial: &Trial,
        catalog: &Catalog,
        done: &mut [Done],
    ) -> std::result::Result<Option<Settled>, RootError> {
        let body = &resource.body;
        let verdict = match self.so_far(resource, catalog, done) {
            So::Open(why) => {
                let failure = Failure::new(format!("{} is not proven: {why}", trial.release))
                    .hint("the next pass goes on with it once that is mended");
                return Ok(Some(Box::new(|change| {
                    Result::Failed(Some(change), failure)
                })));
            }
            So::Waits(why) => {
                let why = format!("{} is not proven: {why}", trial.release);
                return Ok(Some(Box::new(|change| Result::Waiting(change, why))));
            }
            So::Broken(failure) => match self.disturbed(resource, catalog) {
                Some(failure) => Verdict::Disturbed(failure),
                None => Verdict::Failed(failure),
            },
            So::Restarted => match self.watch(resource, trial, catalog) {
                Ok(verdict) => verdict,
                Err(failure) => {
                    return Ok(Some(Box::new(|change| {
                        Result::Failed(Some(change), failure)
                    })));
                }
            },
        };
        let why = match verdict {
            Verdict::Stopped => {
                let why = "trueup was told to stop; the next pass goes on from here".to_owned();
                return Ok(Some(Box::new(|_| Result::Skipped(why))));
            }
            Verdict::Proven => {
                self.tell(&resource.id, &format!("{} is proven", trial.release));
                return Ok(match body.confirm(self.host) {
                    Ok(()) => self
                        .still_to_do(resource)
                        .map(|result| -> Settled { Box::new(|_| result) }),
                    Err(failure) => Some(Box::new(|change| Result::Failed(Some(change), failure))),
                });
            }
            Verdict::Disturbed(why) => {
                self.owe_restarts(resource, catalog)?;
                let why = Failure {
                    message: format!("{} is not proven: {}", trial.release, why.message),
                    ..why
                };
                return Ok(Some(Box::new(|change| Result::Failed(Some(change), why))));
            }
            Verdict::Failed(why) => self.with_last_words(resource, catalog, why),
        };
        self.tell(
            &resource.id,
            &format!("{} failed: {}", trial.release, first_line(&why)),
        );
        let back = match body.put_back(self.host, &why) {
            Ok(back) => back,
            Err(failure) => {
                let failure = Failure::new(format!(
                    "{}; and it cannot be rolled back: {}",
                    why.message, failure.message
                ));
                return Ok(Some(Box::new(|change| {
                    Result::Failed(Some(change), failure)
                })));
            }
        };
        let Some(back) = back else {
            let failure = Failure::new(format!(
                "{} failed, and there is no good release to go back to: {}",
                trial.release, why.message
            ))
            .hint("everything was left as it is; publish a sha that works");
            return Ok(Some(Box::new(|change| Result::RolledBack(change, failure))));
        };
        self.tell(&resource.id, &format!("goes back to {back}"));
        self.after_put_back(resource, catalog, done)?;
        let tried = trial.release.clone();
        let restored = Trial {
            release: back.clone(),
            ..trial.clone()
        };
        let again = match self.so_far(resource, catalog, done) {
            So::Open(why) | So::Waits(why) => Ok(Verdict::Failed(Failure::new(why))),
            So::Broken(failure) => Ok(match self.disturbed(resource, catalog) {
                Some(failure) => Verdict::Disturbed(failure),
                None => Verdict::Failed(failure),
            }),
            So::Restarted => self.watch(resource, &restored, catalog),
        };
        let settled = match again {
            Ok(Verdict::Proven) => body.confirm(self.host),
            Ok(Verdict::Stopped) => Ok(()),
            Ok(Verdict::Disturbed(failure)) => {
                self.owe_restarts(resource, catalog)?;
                Err(failure)
            }
            Ok(Verdict::Failed(failure)) => {
                // It stays where it is: there is no third release to try.
                let _ = body.put_back(self.host, &failure);
                Err(failure)
            }
            Err(failure) => Err(failure),
        };
        Ok(Some(Box::new(move |change| match settled {
            Ok(()) => Result::RolledBack(
                change,
                Failure::new(format!(
                    "{tried} failed and {back} is back: {}",
                    first_line(&why)
                ))
                .hint(LIFT),
            ),
            Err(failure) => Result::Failed(
                Some(change),
                Failure::new(format!(
                    "it failed ({}), and {back}, which is back, is not well either: {}",
                    first_line(&why),
                    failure.message
                )),
            ),
        })))
    }

    /// What is proven may not be what is wanted: a pass that was killed on its way back from a bad
    /// release leaves a good one on trial.
    fn still_to_do(&self, resource: &Resource) -> Option<Result> {
        let seen = resource.body.look(self.host, false).ok()?;
        let change = seen.change?;
        let barred = change
            .fields
            .iter()
            .find(|field| field.field == "quarantine");
        Some(match barred.map(|field| &field.to) {
            Some(Shown::Value(words)) => {
                let failure = Failure::new(words.clone());
                Result::RolledBack(change, failure.hint(LIFT))
            }
            _ => Result::Waiting(change, "the next pass goes on to it".into()),
        })
    }

    /// Why a trial failed, with what its users had to say before they are restarted.
    fn with_last_words(&self, resource: &Resource, catalog: &Catalog, why: Failure) -> Failure {
        // A service that did not start has said so already.
        if why.message.contains('\n') {
            return why;
        }
        let mut why = why;
        for user in catalog.users(&resource.id) {
            let words = user.body.last_words(self.host);
            if !words.is_empty() {
                why = why.and(&format!(
                    "\n{} printed last:\n{}",
                    user.id,
                    words.join("\n")
                ));
            }
        }
        why
    }

    fn tell(&mut self, id: &str, word: &str) {
        (self.observe)(Event::Trial { id, word });
    }

    /// How the users of a resource came through the pass.
    fn so_far(&self, resource: &Resource, catalog: &Catalog, done: &[Done]) -> So {
        if self.host.stop.is_set() {
            return So::Restarted;
        }
        for entry in users(resource, catalog, done) {
            let started = |change: &Change| change.touches("running");
            match &entry.result {
                Result::Failed(Some(change), failure) if started(change) => {
                    return So::Broken(failure.clone());
                }
                Result::Failed(..) if entry.unpaid.is_some() => {
                    return So::Broken(entry.unpaid.clone().expect("seen just now"));
                }
                Result::Failed(_, failure) => {
                    return So::Open(format!("{}: {}", entry.id, failure.message));
                }
                Result::Skipped(why) => return So::Open(format!("{}: {why}", entry.id)),
                Result::Waiting(_, why) => return So::Waits(format!("{}: {why}", entry.id)),
                _ => {}
            }
            let of_it = |debt: &crate::owed::Debt| debt.causes.contains(&resource.id);
            if let Some((debt, why)) = entry.owed.iter().find(|(debt, _)| of_it(debt)) {
                return So::Open(format!(
                    "{} of {} is still owed: {why}",
                    debt.duty, entry.id
                ));
            }
        }
        So::Restarted
    }

    fn watch(
        &self,
        resource: &Resource,
        trial: &Trial,
        catalog: &Catalog,
    ) -> std::result::Result<Verdict, Failure> {
        let users: Vec<&Resource> = catalog.users(&resource.id).collect();
        let mut all = || {
            users
                .iter()
                .try_for_each(|user| user.body.runs_from(self.host, trial))
        };
        let runs_as = || catalog.runs_as(&resource.id, self.host);
        resource.body.prove(self.host, &mut all, &runs_as)
    }

    fn disturbed(&self, resource: &Resource, catalog: &Catalog) -> Option<Failure> {
        let runs_as = || catalog.runs_as(&resource.id, self.host);
        resource.body.disturbed(self.host, &runs_as)
    }

    /// What was disturbed may go on without what it could not have: the next pass starts it anew.
    fn owe_restarts(
        &self,
        resource: &Resource,
        catalog: &Catalog,
    ) -> std::result::Result<(), RootError> {
        for user in catalog.users(&resource.id) {
            if let Some(mut record) = self.ledger.read(&user.id) {
                record.owe(Duty::Restart, &resource.id);
                self.ledger.write(&user.id, &record)?;
            }
        }
        Ok(())
    }

    /// What uses it is restarted from what is back, whether it runs, keeps dying or was never up.
    fn after_put_back(
        &mut self,
        resource: &Resource,
        catalog: &Catalog,
        done: &mut [Done],
    ) -> std::result::Result<(), RootError> {
        if let Ok(seen) = resource.body.look(self.host, resource.watched) {
            self.stamp(&resource.id, seen.stamp);
        }
        for user in catalog.users(&resource.id) {
            let Some(entry) = done.iter_mut().find(|entry| entry.id == user.id) else {
                continue;
            };
            let result = std::mem::replace(&mut entry.result, Result::Right);
            entry.unpaid = None;
            entry.owed.clear();
            let duties = user
                .triggers
                .iter()
                .filter(|trigger| trigger.on.contains(&resource.id));
            let mut failed = None;
            for trigger in duties {
                let debt = crate::owed::Debt {
                    duty: trigger.duty,
                    causes: vec![resource.id.clone()],
                };
                (self.observe)(Event::Pay {
                    id: &user.id,
                    debt: &debt,
                });
                match user.body.pay(trigger.duty, self.host) {
                    Ok(()) => entry.paid.push(debt),
                    Err(failure) => failed = Some(failure),
                }
            }
            let run = user
                .body
                .look(self.host, user.watched)
                .ok()
                .and_then(|seen| seen.run);
            entry.result = match failed {
                Some(failure) => {
                    entry.unpaid = Some(failure.clone());
                    Result::Failed(None, failure)
                }
                None => match result {
                    Result::Failed(Some(change), _) | Result::Changed(change) => {
                        Result::Changed(change)
                    }
                    _ => Result::Right,
                },
            };
            if run.is_some() {
                self.settle(user, run.as_ref(), &[Duty::Restart, Duty::Reload])?;
            }
        }
        Ok(())
    }
}

fn users<'d>(
    resource: &Resource,
    catalog: &Catalog,
    done: &'d [Done],
) -> impl Iterator<Item = &'d Done> {
    let ids: Vec<String> = catalog
        .users(&resource.id)
        .map(|user| user.id.clone())
        .collect();
    done.iter().filter(move |entry| ids.contains(&entry.id))
}

fn change_of(result: Result) -> Change {
    match result {
        Result::Changed(change)
        | Result::Waiting(change, _)
        | Result::RolledBack(change, _)
        | Result::Failed(Some(change), _) => change,
        Result::Right | Result::Skipped(_) | Result::Failed(None, _) => {
            Change::new(crate::resource::Verb::Prove)
        }
    }
}

fn first_line(failure: &Failure) -> &str {
    failure.message.lines().next().unwrap_or_default()
}
