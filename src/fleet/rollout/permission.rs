//! May this host go on? The effects of the request, in the order on which the invariants of the protocol rest.

use super::decide::{Decision, Obstacle, Situation, decide};
use super::identity::EntryId;
use super::journal::{Grant, Journal, JournalStore};
use super::mutation::{Mutation, is_active};
use super::object::RolloutError;
use super::participant::{Participant, Permit};
use super::register::{Register, WantedShas};
use super::store::RolloutStore;
use crate::desired::Sha;
use crate::ports::permission::Purpose;

/// What one round of reads showed.
pub(super) struct Assessment {
    pub decision: Decision,
    pub register: Register,
    pub epoch: u32,
    pub entry: Option<EntryId>,
}

impl<S: RolloutStore, J: JournalStore> Participant<'_, S, J> {
    /// Asks whether this host may go on. `serves`: it serves a proven release.
    ///
    /// After a slot is won everything is read again: while the first answers were under way another host may have
    /// failed, quarantined the sha and freed this very slot.
    pub(crate) fn request(&self, purpose: Purpose, serves: bool) -> Result<Permit, RolloutError> {
        let mut journal = self.journals.load()?;
        self.settle_failure(&mut journal)?;
        self.settle_step(&mut journal)?;
        let first = self.assess(&mut journal, purpose, serves, self.wanted)?;
        match &first.decision {
            Decision::Blocked(obstacle) => return self.deny(&mut journal, obstacle.clone()),
            Decision::Free => self.slots().give_back(&mut journal)?,
            Decision::NeedsSlot => {
                let (slots, number) = (self.slots(), first.register.slots);
                if !slots.holds_slot(&mut journal)? {
                    if let Some((_, other)) = slots.other_group(&journal, number)? {
                        return self.deny(&mut journal, other);
                    }
                    let entry = first.entry.as_ref();
                    if let Some(held) = slots.take_slot(&mut journal, number, entry)? {
                        return self.deny(&mut journal, Obstacle::Slots(held));
                    }
                }
            }
        }
        if is_active(Mutation::NoSecondAssessment) {
            return self.grant(&mut journal, purpose, serves, first);
        }
        self.reassess(&mut journal, purpose, serves)
    }

    /// Whether a request would be granted now, as far as one can see without taking a slot. Leaves the journal alone: a
    /// host that waits asks without the lock, and an operator's pass may be writing it.
    pub(crate) fn peek(&self, purpose: Purpose, serves: bool) -> Result<Permit, RolloutError> {
        let journal = self.journals.load()?;
        let register = self.find_register(purpose, self.wanted)?;
        let found = self.decide(&journal, register, purpose, serves, self.wanted)?;
        Ok(match found.decision {
            Decision::Blocked(obstacle) => Permit::Denied(obstacle),
            Decision::NeedsSlot if journal.slot.is_none() => {
                match self.slots().held_slots(found.register.slots)? {
                    Some(held) => Permit::Denied(Obstacle::Slots(held)),
                    None => Permit::Granted,
                }
            }
            Decision::Free | Decision::NeedsSlot => Permit::Granted,
        })
    }

    /// Asks again, right before a step after which there is no way back but a rollback. A slot is given back untouched
    /// if the answer is another one now.
    pub(crate) fn confirm(&self, purpose: Purpose, serves: bool) -> Result<Permit, RolloutError> {
        let mut journal = self.journals.load()?;
        if serves && !self.slots().holds_slot(&mut journal)? {
            return self.deny(&mut journal, Obstacle::SlotBroken);
        }
        self.reassess(&mut journal, purpose, serves)
    }

    fn reassess(
        &self,
        journal: &mut Journal,
        purpose: Purpose,
        serves: bool,
    ) -> Result<Permit, RolloutError> {
        let wanted = self.store.wanted()?;
        let mut second = self.assess(journal, purpose, serves, &wanted)?;
        if second.decision == Decision::NeedsSlot
            && let Some((number, other)) =
                self.slots().other_group(journal, second.register.slots)?
        {
            // Two hosts that win slots at once and find each other would give both back, and again, for ever. So the
            // lower slot is kept: the holder of the higher one has either not asked yet, and gives it back when it
            // does, or is out of service already, and waits for nobody.
            let is_lower = journal.slot.as_ref().is_some_and(|own| own.number < number);
            if is_lower && !is_active(Mutation::BothGroupsYield) {
                self.interrupt_step(journal)?;
                return Ok(Permit::Denied(other));
            }
            second.decision = Decision::Blocked(other);
        }
        self.grant(journal, purpose, serves, second)
    }

    fn grant(
        &self,
        journal: &mut Journal,
        purpose: Purpose,
        serves: bool,
        found: Assessment,
    ) -> Result<Permit, RolloutError> {
        if let Decision::Blocked(obstacle) = found.decision {
            return self.deny(journal, obstacle);
        }
        if purpose == Purpose::Repeat {
            return Ok(Permit::Granted);
        }
        if purpose == Purpose::Restart && journal.health.take().is_some() {
            // The restarted services have to prove themselves for as long as new ones.
            self.journals.save(journal)?;
        }
        // Before anything happens to the release: while this host was on trial with the next sha, the old one was wanted
        // again, and was done by a mark that this host no longer deserved.
        if let Some(old) = journal.mark.clone().filter(|mark| mark != self.sha)
            && !is_active(Mutation::MarkKeptOnTrial)
        {
            self.store.delete_mark(&old, &self.member.node)?;
            journal.mark = None;
            journal.is_marked = false;
            self.journals.save(journal)?;
        }
        // A failed restart, or way back, says nothing about the wanted sha.
        let entry = found.entry.filter(|_| purpose == Purpose::Deploy);
        let grant = entry.map(|entry| Grant {
            entry,
            epoch: found.epoch,
            served: serves,
        });
        if journal.grant != grant {
            journal.grant = grant;
            self.journals.save(journal)?;
        }
        Ok(Permit::Granted)
    }

    /// A host that may not go on holds nothing that others wait for, neither a slot nor a claim.
    fn deny(&self, journal: &mut Journal, obstacle: Obstacle) -> Result<Permit, RolloutError> {
        self.interrupt_step(journal)?;
        self.slots().give_back(journal)?;
        Ok(Permit::Denied(obstacle))
    }

    fn assess(
        &self,
        journal: &mut Journal,
        purpose: Purpose,
        serves: bool,
        wanted: &WantedShas,
    ) -> Result<Assessment, RolloutError> {
        let mut register = self.find_register(purpose, wanted)?;
        if purpose == Purpose::Deploy {
            register = self.count_if_forgotten(journal, register)?;
        }
        self.decide(journal, register, purpose, serves, wanted)
    }

    /// The register, with an entry of the wanted sha.
    fn find_register(
        &self,
        purpose: Purpose,
        wanted: &WantedShas,
    ) -> Result<Register, RolloutError> {
        let found = self.store.register()?;
        let mut register = found.map_or_else(|| self.new_register(), |found| found.object);
        if purpose == Purpose::Deploy && register.lacks(self.sha, wanted) {
            register = self.open(wanted)?;
        }
        self.polling.notice(&register);
        Ok(register)
    }

    fn decide(
        &self,
        journal: &Journal,
        mut register: Register,
        purpose: Purpose,
        serves: bool,
        wanted: &WantedShas,
    ) -> Result<Assessment, RolloutError> {
        if purpose != Purpose::Deploy {
            return Ok(Assessment {
                decision: match serves {
                    true => Decision::NeedsSlot,
                    false => Decision::Free,
                },
                entry: register.current(self.sha).map(|entry| entry.id.clone()),
                register,
                epoch: 0,
            });
        }
        let quarantine = self.store.quarantine(self.sha)?;
        let quarantine = quarantine.map(|found| found.object);
        let epoch = quarantine.as_ref().map_or(0, |found| found.epoch);
        if register
            .current(self.sha)
            .is_some_and(|entry| entry.epoch < epoch)
        {
            register =
                self.update_register(|register| register.lift_quarantine(self.sha, epoch))?;
        }
        let after = unfinished_app(self.store, &self.policy.after)?;
        let failed_here = journal.failed_here.as_ref();
        let decision = decide(&Situation {
            register: &register,
            wanted,
            sha: self.sha,
            node: &self.member.node,
            serves,
            quarantine: quarantine.as_ref(),
            failed_here: failed_here
                .filter(|failed| failed.sha == *self.sha && failed.epoch >= epoch),
            own_claim: journal.claim.as_ref(),
            wants_canaries: self.policy.canary.is_some(),
            after: after.as_deref(),
        });
        Ok(Assessment {
            decision,
            entry: register.current(self.sha).map(|entry| entry.id.clone()),
            register,
            epoch,
        })
    }

    /// Opens the entry of the wanted sha, and counts the hosts.
    pub(super) fn open(&self, wanted: &WantedShas) -> Result<Register, RolloutError> {
        let opened =
            self.update_register(|register| register.open(self.sha, wanted, self.opener()))?;
        match opened.current(self.sha) {
            // Others that found no entry either leave it to the one that opened it: each would read all records.
            Some(entry)
                if entry.is_open()
                    && entry.count.is_none()
                    && entry.is_counted_by(&self.member.node) =>
            {
                self.count(&entry.id.clone())
            }
            _ => Ok(opened),
        }
    }
}

/// The first app of `after` whose wanted shas are not done everywhere.
pub(super) fn unfinished_app(
    store: &impl RolloutStore,
    after: &[String],
) -> Result<Option<String>, RolloutError> {
    for app in after {
        let Some(wanted) = store.wanted_of(app)? else {
            return Ok(Some(app.clone()));
        };
        let register = store.register_of(app)?.map(|found| found.object);
        let is_done = |sha: &Sha| {
            let entry = register.as_ref().and_then(|register| register.current(sha));
            entry.is_some_and(|entry| entry.was_done)
        };
        if !wanted.shas.iter().all(is_done) {
            return Ok(Some(app.clone()));
        }
    }
    Ok(None)
}
