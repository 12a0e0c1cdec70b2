//! The store as the code under test sees it: answers from a log, and an interruption at the first call that has none.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::call::{Call, Reply, Write};
use super::world::{Disk, Process};
use crate::desired::Sha;
use crate::fleet::rollout::decide::Obstacle;
use crate::fleet::rollout::identity::Nonce;
use crate::fleet::rollout::journal::{Journal, JournalStore};
use crate::fleet::rollout::object::RolloutError;
use crate::fleet::rollout::once::OnceResult;
use crate::fleet::rollout::quarantine::Quarantine;
use crate::fleet::rollout::register::{Register, WantedShas};
use crate::fleet::rollout::slot::Slot;
use crate::fleet::rollout::store::{AppHost, Read, RolloutStore, Swap};
use crate::ports::store::{Etag, StoreError};

/// Thrown to interrupt the code at a call.
struct Interrupted;

/// The store and the disk of one process.
pub(super) struct Client<'a> {
    log: &'a [Reply],
    answered: Cell<usize>,
    call: RefCell<Option<Call>>,
    pub disk: RefCell<Disk>,
    minted: RefCell<Vec<Nonce>>,
    used: Cell<usize>,
    fresh: Cell<u64>,
    /// What the pass reports.
    pub obstacle: RefCell<Option<Obstacle>>,
}

/// How far a process came.
pub(super) struct Progress<T> {
    pub disk: Disk,
    pub minted: Vec<Nonce>,
    /// `None`: it came to its end.
    pub call: Option<Call>,
    pub result: Option<T>,
    pub obstacle: Option<Obstacle>,
}

/// Runs code up to its next call that has no answer yet. `fresh`: the first unused nonce.
pub(super) fn replay<T>(
    process: &Process,
    begin: &Disk,
    fresh: u64,
    code: impl FnOnce(&Client<'_>) -> T,
) -> Progress<T> {
    let client = Client {
        log: &process.log,
        answered: Cell::new(0),
        call: RefCell::new(None),
        disk: RefCell::new(begin.clone()),
        minted: RefCell::new(process.minted.clone()),
        used: Cell::new(0),
        fresh: Cell::new(fresh),
        obstacle: RefCell::new(None),
    };
    let result = match catch_unwind(AssertUnwindSafe(|| code(&client))) {
        Ok(result) => Some(result),
        Err(thrown) if thrown.is::<Interrupted>() => None,
        Err(thrown) => resume_unwind(thrown),
    };
    Progress {
        disk: client.disk.into_inner(),
        minted: client.minted.into_inner(),
        call: client.call.into_inner(),
        result,
        obstacle: client.obstacle.into_inner(),
    }
}

impl Client<'_> {
    pub(super) fn change(&self, change: impl FnOnce(&mut Disk)) {
        change(&mut self.disk.borrow_mut());
    }

    /// The answer to a call, or the end of the run.
    pub(super) fn call(&self, call: Call) -> Reply {
        let number = self.answered.get();
        if let Some(reply) = self.log.get(number) {
            self.answered.set(number + 1);
            return reply.clone();
        }
        *self.call.borrow_mut() = Some(call);
        resume_unwind(Box::new(Interrupted));
    }

    fn swap(&self, write: Write) -> Result<Swap, RolloutError> {
        match self.call(Call::Write(write)) {
            Reply::Swapped(swap) => Ok(swap),
            Reply::Done => Ok(Swap::Written),
            _ => Err(lost()),
        }
    }
}

fn lost() -> RolloutError {
    RolloutError::Store(StoreError::Unreachable {
        store: "model".into(),
        why: "no answer".into(),
        hint: "",
    })
}

impl JournalStore for Client<'_> {
    fn load(&self) -> Result<Journal, RolloutError> {
        Ok(self.disk.borrow().journal.clone())
    }

    fn save(&self, journal: &Journal) -> Result<(), RolloutError> {
        self.disk.borrow_mut().journal = journal.clone();
        Ok(())
    }
}

/// The answer to a read, if it is of the right kind.
macro_rules! read {
    ($client:expr, $call:expr, $reply:path) => {
        match $client.call($call) {
            $reply(found) => Ok(found),
            _ => Err(lost()),
        }
    };
}

impl RolloutStore for Client<'_> {
    fn register(&self) -> Read<Register> {
        read!(self, Call::Register, Reply::Register)
    }

    fn register_of(&self, _app: &str) -> Read<Register> {
        Ok(None)
    }

    fn swap_register(
        &self,
        register: &Register,
        known: Option<&Etag>,
    ) -> Result<Swap, RolloutError> {
        self.swap(Write::Register(register.clone(), known.cloned()))
    }

    fn slot(&self, number: u32) -> Read<Slot> {
        read!(self, Call::Slot(number), Reply::Slot)
    }

    fn swap_slot(
        &self,
        number: u32,
        slot: &Slot,
        known: Option<&Etag>,
    ) -> Result<Swap, RolloutError> {
        self.swap(Write::Slot(number, slot.clone(), known.cloned()))
    }

    fn quarantine(&self, sha: &Sha) -> Read<Quarantine> {
        read!(self, Call::Quarantine(sha.clone()), Reply::Quarantine)
    }

    fn swap_quarantine(
        &self,
        sha: &Sha,
        quarantine: &Quarantine,
        known: Option<&Etag>,
    ) -> Result<Swap, RolloutError> {
        let (sha, quarantine) = (sha.clone(), quarantine.clone());
        self.swap(Write::Quarantine(sha, quarantine, known.cloned()))
    }

    fn once(&self, sha: &Sha, step: &str) -> Read<OnceResult> {
        read!(self, Call::Once(sha.clone(), step.to_owned()), Reply::Once)
    }

    fn swap_once(
        &self,
        sha: &Sha,
        step: &str,
        result: &OnceResult,
        known: Option<&Etag>,
    ) -> Result<Swap, RolloutError> {
        let (sha, step) = (sha.clone(), step.to_owned());
        self.swap(Write::Once(sha, step, result.clone(), known.cloned()))
    }

    fn put_mark(&self, sha: &Sha, node: &str) -> Result<(), RolloutError> {
        self.swap(Write::Mark(sha.clone(), node.to_owned()))?;
        Ok(())
    }

    fn delete_mark(&self, sha: &Sha, node: &str) -> Result<(), RolloutError> {
        self.swap(Write::Unmark(sha.clone(), node.to_owned()))?;
        Ok(())
    }

    fn marks(&self, sha: &Sha) -> Result<Vec<String>, RolloutError> {
        read!(self, Call::Marks(sha.clone()), Reply::Marks)
    }

    fn hosts(&self) -> Result<Vec<AppHost>, RolloutError> {
        read!(self, Call::Hosts, Reply::Hosts)
    }

    fn are_all_hosts(&self, sha: &Sha, nodes: &BTreeSet<String>) -> Result<bool, RolloutError> {
        let mut hosts = self.hosts()?;
        hosts.retain(|host| host.wanted.as_ref() == Some(sha));
        let is_missing = |host: &AppHost| host.is_live && !nodes.contains(&host.node);
        Ok(!hosts.is_empty() && !hosts.iter().any(is_missing))
    }

    fn wanted(&self) -> Result<WantedShas, RolloutError> {
        read!(self, Call::Wanted, Reply::Wanted)
    }

    fn wanted_of(&self, _app: &str) -> Result<Option<WantedShas>, RolloutError> {
        Ok(None)
    }

    fn nonce(&self) -> Nonce {
        let number = self.used.get();
        self.used.set(number + 1);
        let mut minted = self.minted.borrow_mut();
        if let Some(nonce) = minted.get(number) {
            return *nonce;
        }
        let nonce = Nonce(self.fresh.get());
        self.fresh.set(nonce.0 + 1);
        minted.push(nonce);
        nonce
    }
}
