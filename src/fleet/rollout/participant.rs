//! One host in the rollouts of one app. What it asks and tells is in the modules beside this one: permission, slots,
//! steps that one host runs for all, and how it ended.

use std::time::Duration;

use jiff::Timestamp;

use super::decide::Obstacle;
use super::fit::fit;
use super::identity::Member;
use super::journal::JournalStore;
use super::object::RolloutError;
use super::polling::Polling;
use super::register::{Opener, Register, WantedShas};
use super::slots::HostSlots;
use super::store::{MAX_ATTEMPTS, RolloutStore, Swap};
use crate::desired::{RolloutPolicy, Sha};

/// One host and one app.
pub(crate) struct Participant<'a, S, J> {
    pub store: &'a S,
    pub journals: &'a J,
    pub member: &'a Member,
    pub environment: &'a str,
    pub app: &'a str,
    pub policy: &'a RolloutPolicy,
    /// The sha that the manifest wants of this host.
    pub sha: &'a Sha,
    /// What this pass read.
    pub wanted: &'a WantedShas,
    /// This host's value of the tag of `per`.
    pub group: Option<&'a str>,
    /// By the host's own clock, for people.
    pub now: Timestamp,
    pub polling: &'a Polling,
    /// How long another host may take to count the hosts.
    pub count_timeout: Duration,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Permit {
    Granted,
    Denied(Obstacle),
}

impl<S: RolloutStore, J: JournalStore> Participant<'_, S, J> {
    pub(super) fn slots(&self) -> HostSlots<'_, S, J> {
        HostSlots {
            store: self.store,
            journals: self.journals,
            member: self.member,
            environment: self.environment,
            app: self.app,
            group: self.group,
            now: self.now,
            polling: self.polling,
        }
    }

    pub(super) fn new_register(&self) -> Register {
        Register::new(self.environment, self.app)
    }

    pub(super) fn opener(&self) -> Opener<'_> {
        Opener {
            node: &self.member.node,
            at: self.now,
        }
    }

    /// Changes the register by compare-and-swap; repeats the change if somebody else wrote first. Writes nothing if it
    /// has the change already.
    pub(super) fn update_register(
        &self,
        change: impl Fn(&mut Register),
    ) -> Result<Register, RolloutError> {
        self.swap_register(change, false)
    }

    /// The same, and writes the register in any case: a write of before that may still arrive finds another version.
    pub(super) fn rewrite_register(
        &self,
        change: impl Fn(&mut Register),
    ) -> Result<Register, RolloutError> {
        self.swap_register(change, true)
    }

    fn swap_register(
        &self,
        change: impl Fn(&mut Register),
        always: bool,
    ) -> Result<Register, RolloutError> {
        swap_register(self.store, &self.new_register(), change, always)
    }
}

/// Changes a register by compare-and-swap. `absent`: what an absent one is.
pub(super) fn swap_register<S: RolloutStore>(
    store: &S,
    absent: &Register,
    change: impl Fn(&mut Register),
    always: bool,
) -> Result<Register, RolloutError> {
    let key = || format!("rollouts/{}/{}.json", absent.environment, absent.app);
    for _ in 0..MAX_ATTEMPTS {
        let found = store.register()?;
        let etag = found.as_ref().map(|found| found.etag.clone());
        let before = found.map_or_else(|| absent.clone(), |found| found.object);
        let mut register = before.clone();
        change(&mut register);
        if register == before && !always {
            return Ok(register);
        }
        register.nonce = store.nonce();
        if !fit(&mut register) {
            return Err(RolloutError::Object {
                key: key(),
                why: "it has no room for another change".into(),
            });
        }
        if store.swap_register(&register, etag.as_ref())? == Swap::Written {
            return Ok(register);
        }
    }
    Err(RolloutError::Busy {
        key: key(),
        attempts: MAX_ATTEMPTS,
    })
}
