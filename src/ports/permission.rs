//! Permission to take an app of this host out of service. A host by itself needs none; a host of a fleet asks the
//! others, through the store.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Asks the fleet on behalf of one app. No method waits for other hosts: the answer is what is so now.
pub(crate) trait Permission {
    /// Whether a request would be granted now, without taking anything.
    fn peek(&self, purpose: Purpose, serves: bool) -> PermitDecision;

    /// Asks whether the app may be taken out of service now. `serves`: it serves a release that is proven here.
    fn request(&self, purpose: Purpose, serves: bool) -> PermitDecision;

    /// Asks again, right before a step after which there is no way back but a rollback.
    fn confirm(&self, purpose: Purpose, serves: bool) -> PermitDecision;

    /// Whether other hosts serve the app in any case while this one is out of service. `None`: nobody knows.
    fn others_serve(&self) -> Option<bool>;

    /// Asks whether this host runs a step that one host runs for all.
    fn claim_step(&self, step: &str) -> StepDecision;

    /// Says how such a step ended. `log_tail`: the last lines that it printed.
    fn record_step(&self, succeeded: bool, log_tail: &str) -> Result<(), String>;

    /// Says that the wanted release failed here, before anything is done about it. `reason`: one line.
    fn note_failure(&self, reason: &str, log_tail: &str) -> Result<(), String>;
}

/// What permission is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// The activation of the wanted sha.
    Deploy,
    /// The way back to an earlier release. Always allowed, by a slot.
    Back,
    /// Another proof of the wanted sha, which became unhealthy: it may end with the way back.
    Repeat,
    /// Restarts for other reasons: configuration, a certificate, a package.
    Restart,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PermitDecision {
    Granted,
    /// Not now, for this reason.
    Wait(String),
    /// Not before an operator has seen to it: the sha is quarantined in the environment, for this reason.
    Refused(String),
}

/// The answer to the claim of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StepDecision {
    /// This host runs it, for the n-th time for this sha.
    Run {
        attempt: u32,
    },
    /// It has succeeded already.
    Succeeded,
    Wait(String),
    /// It failed on another host, for this reason.
    Failed(String),
}

/// Asks the fleet on behalf of a service that belongs to no app, such as a load balancer.
pub(crate) trait ServicePermission {
    /// Asks whether it may be restarted or reloaded now. `Err`: not yet, for this reason.
    fn request(&self) -> Result<(), String>;
}

/// The permissions of the apps and services of this host.
#[derive(Default)]
pub(crate) struct Permissions {
    apps: RefCell<BTreeMap<String, Rc<dyn Permission>>>,
    services: RefCell<BTreeMap<String, Rc<dyn ServicePermission>>>,
}

impl Permissions {
    /// The permission of an app.
    pub(crate) fn of(&self, app: &str) -> Rc<dyn Permission> {
        let known = self.apps.borrow().get(app).cloned();
        known.unwrap_or_else(|| Rc::new(Independent { others_serve: None }))
    }

    /// Lets an app ask here.
    pub(crate) fn set(&self, app: &str, permission: Rc<dyn Permission>) {
        self.apps.borrow_mut().insert(app.to_owned(), permission);
    }

    /// Asks on behalf of a service, by the name of its slots. One whose hosts do not ask each other needs no permission.
    pub(crate) fn request_for_service(&self, slots: &str) -> Result<(), String> {
        let known = self.services.borrow().get(slots).cloned();
        known.map_or(Ok(()), |permission| permission.request())
    }

    /// Lets a service ask here, by the name of its slots.
    pub(crate) fn set_for_service(&self, slots: &str, permission: Rc<dyn ServicePermission>) {
        self.services
            .borrow_mut()
            .insert(slots.to_owned(), permission);
    }
}

/// For an app whose hosts do not ask each other.
pub(crate) struct Independent {
    /// `Some(false)`: all of them may be out at once.
    pub others_serve: Option<bool>,
}

impl Permission for Independent {
    fn peek(&self, _: Purpose, _: bool) -> PermitDecision {
        PermitDecision::Granted
    }

    fn request(&self, _: Purpose, _: bool) -> PermitDecision {
        PermitDecision::Granted
    }

    fn confirm(&self, _: Purpose, _: bool) -> PermitDecision {
        PermitDecision::Granted
    }

    fn others_serve(&self) -> Option<bool> {
        self.others_serve
    }

    fn claim_step(&self, _: &str) -> StepDecision {
        StepDecision::Run { attempt: 1 }
    }

    fn record_step(&self, _: bool, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn note_failure(&self, _: &str, _: &str) -> Result<(), String> {
        Ok(())
    }
}
