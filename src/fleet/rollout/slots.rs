//! Taking slots and giving them back. A slot is this host's if it has the nonce of its journal.

use jiff::Timestamp;

use super::decide::{HeldSlot, Obstacle};
use super::identity::{EntryId, Member, Nonce};
use super::journal::{Journal, JournalStore, JournaledSlot};
use super::mutation::{Mutation, is_active};
use super::object::RolloutError;
use super::polling::Polling;
use super::slot::{Slot, SlotHolder};
use super::store::{MAX_ATTEMPTS, RolloutStore, Swap, Versioned};

/// Slots that are read before the holders of other groups among them are looked at.
const READ_AT_ONCE: usize = 64;

/// The slots of one app, or of one service, as one host takes them.
pub(super) struct HostSlots<'a, S, J> {
    pub store: &'a S,
    pub journals: &'a J,
    pub member: &'a Member,
    pub environment: &'a str,
    pub app: &'a str,
    /// This host's value of the tag of `per`.
    pub group: Option<&'a str>,
    /// By the host's own clock, for people.
    pub now: Timestamp,
    pub polling: &'a Polling,
}

impl<S: RolloutStore, J: JournalStore> HostSlots<'_, S, J> {
    /// Whether this host holds the slot of its journal. By the nonce: the name would also be that of a machine that
    /// this one replaced. Settles a write whose answer was lost.
    pub(super) fn holds_slot(&self, journal: &mut Journal) -> Result<bool, RolloutError> {
        if is_active(Mutation::OwnershipByName) && journal.slot.is_none() {
            journal.slot = self.slot_with_own_name()?;
        }
        // A host whose answer to its own `free` was lost found its nonce in the slot, went on with it for the next sha,
        // and the `free` arrived when the host was out of service.
        let is_leaving = journal.slot.as_ref().is_some_and(|own| own.is_leaving);
        if is_leaving && !is_active(Mutation::FreeSlotUnderWayForgotten) {
            self.give_back(journal)?;
        }
        let Some(own) = journal.slot.clone() else {
            return Ok(false);
        };
        for _ in 0..MAX_ATTEMPTS {
            let found = self.store.slot(own.number)?;
            if self.is_own(found.as_ref(), &own) {
                return Ok(true);
            }
            if found.map(|found| found.etag) != own.replaces {
                // It was never won, or it was broken.
                journal.slot = None;
                self.journals.save(journal)?;
                return Ok(false);
            }
            // The write may still arrive. The same write again: either one of the two takes effect, or none.
            let slot = self.held_slot(&own);
            let swapped = self
                .store
                .swap_slot(own.number, &slot, own.replaces.as_ref())?;
            if swapped == Swap::Written {
                return Ok(true);
            }
        }
        Err(self.busy_slot(own.number))
    }

    fn is_own(&self, found: Option<&Versioned<Slot>>, own: &JournaledSlot) -> bool {
        if is_active(Mutation::OwnershipByName) {
            let holder = found.and_then(|found| found.object.holder.as_ref());
            return holder.is_some_and(|holder| holder.member.node == self.member.node);
        }
        found.is_some_and(|found| found.object.nonce == own.nonce && found.object.holder.is_some())
    }

    /// Of a rule that does not hold: the slot that a holder with the name of this host has.
    fn slot_with_own_name(&self) -> Result<Option<JournaledSlot>, RolloutError> {
        let found = self.store.slot(0)?.map(|found| found.object);
        let holder = found.as_ref().and_then(|slot| slot.holder.clone());
        let own = holder.filter(|holder| holder.member.node == self.member.node);
        Ok(own.map(|holder| JournaledSlot {
            number: 0,
            nonce: found.map_or(Nonce(0), |slot| slot.nonce),
            replaces: None,
            entry: holder.entry,
            since: holder.since,
            is_leaving: false,
        }))
    }

    fn held_slot(&self, own: &JournaledSlot) -> Slot {
        let holder = SlotHolder {
            member: self.member.clone(),
            entry: own.entry.clone(),
            since: own.since,
            group: self.group.map(str::to_owned),
        };
        Slot::held(own.nonce, holder)
    }

    /// The slots that are held of those that this host looks at; `None`: one is free.
    pub(super) fn held_slots(&self, slots: u32) -> Result<Option<Vec<HeldSlot>>, RolloutError> {
        let mut held = Vec::new();
        for number in self.polling.probes(slots) {
            let holder = self
                .store
                .slot(number)?
                .and_then(|found| found.object.holder);
            match holder {
                Some(holder) => held.push(HeldSlot {
                    number,
                    node: holder.member.node,
                }),
                None => {
                    // The request that follows takes this one: among many slots it would not find it again.
                    self.polling.begin_at(number);
                    return Ok(None);
                }
            }
        }
        self.begin_behind(&held);
        Ok(Some(held))
    }

    /// Takes one of these slots that is free, for an entry. Returns the slots that are held if none is free.
    pub(super) fn take_slot(
        &self,
        journal: &mut Journal,
        slots: u32,
        entry: Option<&EntryId>,
    ) -> Result<Option<Vec<HeldSlot>>, RolloutError> {
        let mut held = Vec::new();
        for number in self.polling.probes(slots) {
            let current = self.store.slot(number)?;
            let holder = current
                .as_ref()
                .and_then(|found| found.object.holder.as_ref());
            if let Some(holder) = holder.filter(|_| !is_active(Mutation::SlotExpires)) {
                held.push(HeldSlot {
                    number,
                    node: holder.member.node.clone(),
                });
                continue;
            }
            let own = JournaledSlot {
                number,
                nonce: self.store.nonce(),
                replaces: current.map(|found| found.etag),
                entry: entry.cloned(),
                since: self.now,
                is_leaving: false,
            };
            journal.slot = Some(own.clone());
            // Before the write: a host that is killed in between has to know its own slot.
            if !is_active(Mutation::SlotNotedAfterWrite) {
                self.journals.save(journal)?;
            }
            let slot = self.held_slot(&own);
            if self.store.swap_slot(number, &slot, own.replaces.as_ref())? == Swap::Written {
                self.journals.save(journal)?;
                return Ok(None);
            }
            journal.slot = None;
            self.journals.save(journal)?;
        }
        self.begin_behind(&held);
        Ok(Some(held))
    }

    /// Looks at other slots the next time, so that a host comes to each in turn.
    fn begin_behind(&self, held: &[HeldSlot]) {
        if let Some(last) = held.last() {
            self.polling.begin_at(last.number + 1);
        }
    }

    /// The lowest slot that a host of another group holds, and what that means for this one.
    pub(super) fn other_group(
        &self,
        journal: &Journal,
        slots: u32,
    ) -> Result<Option<(u32, Obstacle)>, RolloutError> {
        let Some(group) = self.group else {
            return Ok(None);
        };
        let own = journal.slot.as_ref().map(|own| own.number);
        let numbers = (0..slots).filter(|number| Some(*number) != own);
        for some in numbers.collect::<Vec<u32>>().chunks(READ_AT_ONCE) {
            for (number, holder) in self.store.holders(some)? {
                if let Some(other) = holder.group.filter(|other| other != group) {
                    let held = HeldSlot {
                        number,
                        node: holder.member.node,
                    };
                    return Ok(Some((number, Obstacle::OtherGroup { group: other, held })));
                }
            }
        }
        Ok(None)
    }

    /// Gives the slot back that this host holds, or is about to hold.
    pub(super) fn give_back(&self, journal: &mut Journal) -> Result<(), RolloutError> {
        let Some(own) = journal.slot.clone() else {
            return Ok(());
        };
        if let Some(slot) = journal.slot.as_mut().filter(|slot| !slot.is_leaving) {
            slot.is_leaving = true;
            self.journals.save(journal)?;
        }
        for _ in 0..MAX_ATTEMPTS {
            let found = self.store.slot(own.number)?;
            let etag = found.as_ref().map(|found| &found.etag);
            // A write that may still arrive must find another version.
            let may_arrive =
                etag == own.replaces.as_ref() && !is_active(Mutation::LateSlotWriteForgotten);
            let is_over = !may_arrive && !self.is_own(found.as_ref(), &own);
            let nonce = match is_active(Mutation::FreeSlotWithoutNonce) {
                true => Nonce(0),
                false => self.store.nonce(),
            };
            if is_over
                || self.store.swap_slot(own.number, &Slot::free(nonce), etag)? == Swap::Written
            {
                journal.slot = None;
                return self.journals.save(journal);
            }
        }
        // Not forgotten: nobody else would ever free it.
        Err(self.busy_slot(own.number))
    }

    fn busy_slot(&self, number: u32) -> RolloutError {
        RolloutError::Busy {
            key: format!("slots/{}/{}/{number}.json", self.environment, self.app),
            attempts: MAX_ATTEMPTS,
        }
    }
}
