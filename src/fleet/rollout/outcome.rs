//! How an activation ended here: proven, failed, and the end of the rollout.

use std::collections::BTreeSet;

use super::decide::Obstacle;
use super::entry::{HaltCause, HaltRecord};
use super::identity::EntryId;
use super::journal::{Ended, FailedHere, Journal, JournalStore, JournaledFailure};
use super::mutation::{Mutation, is_active};
use super::object::RolloutError;
use super::participant::{Participant, swap_register};
use super::quarantine::Quarantine;
use super::register::Register;
use super::store::{MAX_ATTEMPTS, RolloutStore, Swap};
use crate::desired::Sha;
use crate::fleet::sanitize_line;

/// Maximum size of the log tail of a failure, in bytes.
const MAX_LOG_TAIL: usize = 2 << 10;

impl<S: RolloutStore, J: JournalStore> Participant<'_, S, J> {
    /// The sha is active here and proven; `served`: this host served a release before. Returns the register.
    pub(crate) fn proven(&self, served: bool) -> Result<Register, RolloutError> {
        let mut journal = self.journals.load()?;
        if journal.mark.as_ref() != Some(self.sha) {
            // Of a sha that this host got without permission. First, so that no mark is forgotten.
            if let Some(old) = &journal.mark {
                self.store.delete_mark(old, &self.member.node)?;
            }
            journal.mark = Some(self.sha.clone());
            journal.is_marked = false;
            // A trial that was repeated, and passed.
            let is_other = |failure: &JournaledFailure| failure.entry.sha != *self.sha;
            journal.failure = journal.failure.filter(is_other);
            journal.failed_here = None;
            self.journals.save(&journal)?;
        }
        if !journal.is_marked {
            self.store.put_mark(self.sha, &self.member.node)?;
            journal.is_marked = true;
            self.journals.save(&journal)?;
        }
        self.update_register(|register| {
            // All hosts may have the sha already, and nobody asks for permission then.
            register.open(self.sha, self.wanted, self.opener());
            if let Some(id) = current_id(register, self.sha).filter(|_| served) {
                register.set_proven(&id);
            }
            register.unlist_failure(self.sha, &self.member.node);
        })
    }

    /// Gives the slot back after a proof, or after the way back from a failure.
    pub(crate) fn leave(&self) -> Result<(), RolloutError> {
        let mut journal = self.journals.load()?;
        if is_active(Mutation::SlotFreedBeforeFailure) {
            self.slots().give_back(&mut journal)?;
        }
        self.settle_failure(&mut journal)?;
        self.slots().give_back(&mut journal)
    }

    /// This host is a canary that has been healthy for as long as the policy wants.
    pub(crate) fn pass_canary(&self) -> Result<(), RolloutError> {
        self.update_register(|register| {
            if let Some(id) = current_id(register, self.sha) {
                register.pass_canary(&id, &self.member.node);
            }
        })?;
        Ok(())
    }

    /// Whether this host knows that the rollout is over, so that it need not read the register.
    pub(crate) fn is_ended(&self) -> Result<bool, RolloutError> {
        Ok(self.knows_end(&self.journals.load()?))
    }

    /// The same, of a journal that is loaded already.
    pub(super) fn knows_end(&self, journal: &Journal) -> bool {
        journal.ended.as_ref().is_some_and(|ended| {
            let generation = self.wanted.generation;
            ended.sha == *self.sha
                && (ended.generation == generation || is_active(Mutation::EndedForEver))
        })
    }

    /// Ends the entry if all hosts have the sha. Returns whether it is over.
    pub(crate) fn finish(&self) -> Result<bool, RolloutError> {
        let is_over = end_if_done(self.store, &self.new_register(), self.sha)?;
        if is_over {
            self.note_end()?;
        }
        Ok(is_over)
    }

    pub(super) fn note_end(&self) -> Result<(), RolloutError> {
        let mut journal = self.journals.load()?;
        journal.ended = Some(Ended {
            sha: self.sha.clone(),
            generation: self.wanted.generation,
        });
        self.journals.save(&journal)
    }

    /// Notes that the sha failed here, before anything else happens: a host that is killed now records it later.
    /// `served`: this host served a release before.
    pub(crate) fn note_failure(
        &self,
        reason: &str,
        log_tail: &str,
        served: bool,
    ) -> Result<(), RolloutError> {
        let mut journal = self.journals.load()?;
        let Some(grant) = journal.grant.take() else {
            // It is noted already.
            return Ok(());
        };
        let reason = sanitize_line(reason);
        journal.attempts += 1;
        journal.failed_here = Some(FailedHere {
            sha: grant.entry.sha.clone(),
            epoch: grant.epoch,
            reason: reason.clone(),
        });
        journal.failure = Some(JournaledFailure {
            entry: grant.entry,
            epoch: grant.epoch,
            attempt: journal.attempts,
            reason,
            log_tail: tail(log_tail).to_owned(),
            served,
            is_environment: false,
        });
        self.journals.save(&journal)
    }

    /// The release before did not prove itself either: it is not the sha. The slot stays held. To be called by each
    /// pass that finds it so: an operator may have let the entry go on too early. Returns what to report.
    pub(crate) fn note_environment(&self, reason: &str) -> Result<Obstacle, RolloutError> {
        let mut journal = self.journals.load()?;
        if let Some(failure) = &mut journal.failure {
            failure.is_environment = true;
            journal.failed_here = None;
            self.journals.save(&journal)?;
            self.settle_failure(&mut journal)?;
        }
        let halt = HaltRecord::new(HaltCause::Environment, &self.member.node, reason);
        self.update_register(|register| {
            if let Some(id) = current_id(register, self.sha) {
                register.halt(&id, halt.clone());
            }
        })?;
        Ok(Obstacle::Halted(halt))
    }

    /// Writes a noted failure to the register, and the quarantine that follows from it.
    pub(super) fn settle_failure(&self, journal: &mut Journal) -> Result<(), RolloutError> {
        let Some(failure) = journal.failure.clone() else {
            return Ok(());
        };
        let (id, by) = (&failure.entry, &self.member.node);
        let register = self.update_register(|register| {
            if failure.is_environment {
                let halt = HaltRecord::new(HaltCause::Environment, by, &failure.reason);
                register.halt(id, halt);
                return;
            }
            let count = register.entry(id).and_then(|entry| entry.count);
            if failure.served || count.is_some_and(|count| count.serving == 0) {
                let hosts = count.map_or(1, |count| count.hosts as usize);
                let limit = self.policy.max_failures.of(hosts);
                let found = failure.describe(self.member);
                register.record_failure(id, failure.epoch, found, limit);
            }
        })?;
        let halt = register.entry(id).and_then(|entry| entry.halt.as_ref());
        if halt.is_some_and(|halt| halt.cause == HaltCause::Quarantined) {
            self.quarantine(&failure)?;
        }
        journal.failure = None;
        self.journals.save(journal)
    }

    fn quarantine(&self, failure: &JournaledFailure) -> Result<(), RolloutError> {
        let sha = &failure.entry.sha;
        for _ in 0..MAX_ATTEMPTS {
            let found = self.store.quarantine(sha)?;
            let before = found.as_ref().map(|found| &found.object);
            let is_settled = |before: &Quarantine| {
                let is_later = before.epoch > failure.epoch;
                before.in_force || is_later && !is_active(Mutation::FailureWithoutEpoch)
            };
            if before.is_some_and(is_settled) {
                return Ok(());
            }
            let about = (
                self.store.nonce(),
                self.member.node.clone(),
                self.now,
                failure.reason.clone(),
            );
            let imposed = Quarantine::imposed(before, about);
            let etag = found.as_ref().map(|found| &found.etag);
            if self.store.swap_quarantine(sha, &imposed, etag)? == Swap::Written {
                return Ok(());
            }
        }
        Err(RolloutError::Busy {
            key: format!("quarantine/{}/{}/{sha}.json", self.environment, self.app),
            attempts: MAX_ATTEMPTS,
        })
    }
}

/// Ends the entry of a sha if all hosts have it. Anybody may try. `absent`: what an absent register is. Returns whether it
/// is over.
pub(crate) fn end_if_done<S: RolloutStore>(
    store: &S,
    absent: &Register,
    sha: &Sha,
) -> Result<bool, RolloutError> {
    let register = store.register()?;
    let register = register.map_or_else(|| absent.clone(), |found| found.object);
    let Some(entry) = register.current(sha) else {
        return Ok(false);
    };
    if !entry.is_open() {
        return Ok(true);
    }
    if entry.halt.is_some() {
        return Ok(false);
    }
    let marks = store.marks(sha)?;
    if marks.is_empty() {
        return Ok(false);
    }
    let mut known: BTreeSet<String> = marks.into_iter().collect();
    known.extend(entry.ignored.iter().cloned());
    if !is_active(Mutation::DoneWithoutMarks) && !store.are_all_hosts(sha, &known)? {
        return Ok(false);
    }
    let id = entry.id.clone();
    let register = swap_register(store, absent, |register| register.set_done(&id), false)?;
    Ok(register.entry(&id).is_some_and(|entry| !entry.is_open()))
}

fn current_id(register: &Register, sha: &Sha) -> Option<EntryId> {
    register.current(sha).map(|entry| entry.id.clone())
}

/// The end of an output, which fits into an entry.
fn tail(text: &str) -> &str {
    let start = text.len().saturating_sub(MAX_LOG_TAIL);
    &text[text.ceil_char_boundary(start)..]
}
