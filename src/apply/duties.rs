//! Restarts, reloads and runs that are due.

use super::{Applier, Event, ResourceResult};
use crate::owed::{self, FulfilledObligation, Obligation};
use crate::plan::without_redundant_reloads;
use crate::ports::root::RootError;
use crate::resource::{Duty, DutyOutcome, Failure, FailureKind};
use crate::role::Resource;

impl<'a> Applier<'a> {
    /// Fulfills the obligations of a resource, or records why not.
    pub(super) fn fulfill_duties(&mut self, resource: &'a Resource) -> Result<(), RootError> {
        if resource.triggers.is_empty() {
            return Ok(());
        }
        let run = match self.is_broken(&resource.id) {
            true => None,
            false => self.view.run(resource),
        };
        let record = self.records.read(&resource.id);
        let (triggers, stamps) = (&resource.triggers, &self.view.stamps);
        let due = owed::due_obligations(record.as_ref(), run.as_ref(), triggers, stamps);
        if !due.is_empty()
            && let Some(why) = self.defer_to_gate(resource)
        {
            let owed = without_redundant_reloads(due).into_iter();
            let owed = owed.map(|obligation| (obligation, why.clone()));
            self.result_mut(resource).owed.extend(owed);
            return Ok(());
        }
        let mut fulfilled = Vec::new();
        for obligation in without_redundant_reloads(due) {
            let blocker = self
                .duty_blocker(resource)
                .or_else(|| self.restart_blocker(resource, obligation.duty));
            match blocker {
                Some(why) => self.result_mut(resource).owed.push((obligation, why)),
                None => fulfilled.extend(self.fulfill(resource, obligation)),
            }
        }
        if self.is_broken(&resource.id) && fulfilled.is_empty() {
            return Ok(());
        }
        self.record_fulfilled(resource, &fulfilled)
    }

    /// Records which duties are done. A service that does not run keeps its record: it starts with what is on disk.
    pub(super) fn record_fulfilled(
        &mut self,
        resource: &'a Resource,
        fulfilled: &[Duty],
    ) -> Result<(), RootError> {
        let run = self.view.run(resource);
        let mut triggers = resource.triggers.iter();
        let is_service = triggers.any(|trigger| trigger.duty != Duty::Run);
        if run.is_some() || !is_service {
            self.update_record(resource, run.as_ref(), fulfilled)?;
        }
        Ok(())
    }

    /// Why no duty of a resource can be fulfilled now.
    fn duty_blocker(&self, resource: &Resource) -> Option<String> {
        match &self.results[&*resource.id].result {
            ResourceResult::Failed(..) | ResourceResult::Skipped(_) => {
                Some("the resource itself failed".to_owned())
            }
            ResourceResult::Waiting(_, why) => Some(why.clone()),
            _ if self.host.stop.is_set() => Some("stopped on request".to_owned()),
            _ => self
                .broken_dependency(resource)
                .map(|id| format!("{id} failed")),
        }
    }

    /// Fulfills one obligation, once the checks of what caused it pass; returns the duties that are done by it.
    fn fulfill(&mut self, resource: &'a Resource, obligation: Obligation) -> Vec<Duty> {
        if let Err(failure) = self.validation.require_passing(&obligation, self.host) {
            let entry = self.result_mut(resource);
            entry.owed.push((obligation, failure.message.clone()));
            entry.fail(failure);
            return Vec::new();
        }
        if let Err(stopped) = self.drain_before(resource, obligation.duty) {
            let entry = self.result_mut(resource);
            entry.owed.push((obligation, stopped.message));
            return Vec::new();
        }
        match self.perform_recorded(resource, obligation) {
            Ok(done) => done,
            Err(failure) if failure.is(FailureKind::Deferred) => Vec::new(),
            Err(failure) => {
                let entry = self.result_mut(resource);
                entry.duty_failure = Some(failure.clone());
                entry.fail(failure);
                Vec::new()
            }
        }
    }

    /// [`Applier::perform`] as a part of a pass, which reports it.
    pub(super) fn perform_recorded(
        &mut self,
        resource: &'a Resource,
        obligation: Obligation,
    ) -> Result<Vec<Duty>, Failure> {
        let result = self.perform(resource, &obligation);
        let entry = self.result_mut(resource);
        match result {
            Ok((done, outcome)) => {
                let fulfilled = FulfilledObligation::new(obligation, outcome);
                entry.fulfilled.push(fulfilled);
                Ok(done)
            }
            Err(failure) => {
                entry.owed.push((obligation, failure.message.clone()));
                Err(failure)
            }
        }
    }

    /// Records that a reload is owed until it is known to have succeeded.
    fn record_unproven_reload(&mut self, resource: &'a Resource) -> Result<(), RootError> {
        let run = self.view.run(resource);
        let record = self.records.read(&resource.id);
        let (triggers, stamps) = (&resource.triggers, &self.view.stamps);
        let marked =
            owed::record_of_unproven_reload(record.as_ref(), run.as_ref(), triggers, stamps);
        self.records.write(&resource.id, &marked)
    }

    /// Restarts, reloads or runs a resource on the host; returns the duties that are done by it, and how.
    pub(super) fn perform(
        &mut self,
        resource: &'a Resource,
        obligation: &Obligation,
    ) -> Result<(Vec<Duty>, DutyOutcome), Failure> {
        (self.on_event)(Event::DutyStarted {
            id: &resource.id,
            obligation,
        });
        if obligation.duty == Duty::Reload {
            self.record_unproven_reload(resource)?;
        }
        let fingerprint = |cause: &String| {
            let stamp = self.view.stamps.get(cause);
            stamp.map_or("", |stamp| stamp.fingerprint.as_str())
        };
        let fingerprints: Vec<&str> = obligation.causes.iter().map(fingerprint).collect();
        let result = resource.fulfill(obligation.duty, &fingerprints, self.host);
        self.view.forget();
        let outcome = result?;
        (self.on_event)(Event::DutyFulfilled {
            id: &resource.id,
            obligation,
            outcome: &outcome,
        });
        let done = match obligation.duty {
            Duty::Restart => vec![Duty::Restart, Duty::Reload],
            duty => vec![duty],
        };
        Ok((done, outcome))
    }
}
