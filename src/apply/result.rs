//! The results of a pass, by resource.

use crate::owed::{FulfilledObligation, Obligation};
use crate::resource::{Change, Failure, FailureKind};

/// The result of one resource.
#[derive(Debug)]
pub(crate) enum ResourceResult {
    Unchanged,
    Changed(Change),
    Waiting(Change, String),
    /// It failed its trial and the earlier release is back, it failed its preflight, or the wanted sha failed earlier
    /// and is quarantined.
    RolledBack(Change, Failure),
    Failed(Option<Change>, Failure),
    /// Not inspected or not changed, for this reason.
    Skipped(String),
}

impl ResourceResult {
    /// Whether it is not in its desired state, so that nothing that depends on it may act.
    pub(super) fn is_broken(&self) -> bool {
        match self {
            ResourceResult::Failed(_, failure) => !failure.is(FailureKind::Degraded),
            ResourceResult::Skipped(_) => true,
            _ => false,
        }
    }

    /// trueup was asked to stop before it came to the resource, or to the end of its trial.
    pub(super) fn stopped() -> ResourceResult {
        ResourceResult::Skipped("stopped on request; the next pass continues from here".into())
    }

    pub(super) fn into_change(self) -> Option<Change> {
        match self {
            ResourceResult::Changed(change)
            | ResourceResult::Waiting(change, _)
            | ResourceResult::RolledBack(change, _)
            | ResourceResult::Failed(Some(change), _) => Some(change),
            ResourceResult::Unchanged
            | ResourceResult::Skipped(_)
            | ResourceResult::Failed(None, _) => None,
        }
    }
}

/// The result of one resource and of its duties.
#[derive(Debug)]
pub(crate) struct AppliedResource {
    pub id: String,
    pub result: ResourceResult,
    /// Fulfilled in this pass.
    pub fulfilled: Vec<FulfilledObligation>,
    /// Still owed, each with the failure or the reason to wait.
    pub owed: Vec<(Obligation, String)>,
    /// The failure of a restart, reload or run itself, not of what prevented it.
    pub(super) duty_failure: Option<Failure>,
}

impl AppliedResource {
    pub(super) fn new(id: &str, result: ResourceResult) -> AppliedResource {
        AppliedResource {
            id: id.to_owned(),
            result,
            fulfilled: Vec::new(),
            owed: Vec::new(),
            duty_failure: None,
        }
    }

    /// Marks it as failed; keeps the change that was made.
    pub(super) fn fail(&mut self, failure: Failure) {
        let change = self.take_result().into_change();
        self.result = ResourceResult::Failed(change, failure);
    }

    /// Why it could not be started or restarted, as opposed to a failure that says nothing about what runs in it.
    pub(super) fn start_failure(&self) -> Option<&Failure> {
        match &self.result {
            ResourceResult::Failed(Some(change), failure) if change.sets_running => Some(failure),
            ResourceResult::Failed(..) => self.duty_failure.as_ref(),
            _ => None,
        }
    }

    /// Replaces the result of an earlier start by that of another one. A failure of another cause stays.
    pub(super) fn record_restart(&mut self, failure: Option<Failure>) {
        let is_result_of_start = self.start_failure().is_some();
        self.duty_failure = failure.clone();
        self.result = match (failure, self.take_result()) {
            (Some(failure), _) => ResourceResult::Failed(None, failure),
            (None, other @ ResourceResult::Failed(..)) if !is_result_of_start => other,
            (None, before) => before
                .into_change()
                .map_or(ResourceResult::Unchanged, ResourceResult::Changed),
        };
    }

    /// Takes the result out, to put another in its place.
    pub(super) fn take_result(&mut self) -> ResourceResult {
        std::mem::replace(&mut self.result, ResourceResult::Unchanged)
    }
}
