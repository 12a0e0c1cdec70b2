//! The slot of a service of the hosts, such as a load balancer: one host of the environment at a time restarts or reloads
//! it, so that a configuration with which it does not work takes one host out. There is one slot, and nothing else of a
//! rollout: no register, no policy, no sha.

use std::rc::Rc;

use super::decide::HeldSlot;
use super::fleet_host::FleetHost;
use super::journal::{Journal, JournalStore};
use super::journal_file::{JournalFile, journaled_names};
use super::object::RolloutError;
use super::objects::{StoreObjects, is_refusal};
use super::polling::Polling;
use super::remedy::Remedy;
use super::slots::HostSlots;
use crate::desired::POLICY_APP;
use crate::ports::permission::ServicePermission;

/// How many hosts may be out at a time.
const SLOTS: u32 = 1;

/// The slot of one service, as this host takes it.
pub(crate) struct ServiceSlot {
    pub host: Rc<FleetHost>,
    /// What stands for the app in the names of objects.
    pub name: String,
    /// A person started the pass: somebody looks at what happens.
    pub by_hand: bool,
}

type Slots<'a> = HostSlots<'a, StoreObjects<'a>, JournalFile<'a>>;

impl ServiceSlot {
    /// Those of which this host has a journal, but for the `known` ones: a role that leaves the host, or a service of
    /// another name, would keep its slot for ever.
    pub(crate) fn abandoned(host: &Rc<FleetHost>, known: &[&str]) -> Vec<ServiceSlot> {
        let names = journaled_names(&host.root).into_iter();
        let is_service = |name: &String| name.starts_with('_') && name != POLICY_APP;
        let abandoned = names.filter(|name| is_service(name) && !known.contains(&&**name));
        let slot = |name| ServiceSlot {
            host: host.clone(),
            name,
            by_hand: false,
        };
        abandoned.map(slot).collect()
    }

    fn with<T>(
        &self,
        act: impl FnOnce(&Slots<'_>, &mut Journal) -> Result<T, RolloutError>,
    ) -> Result<T, RolloutError> {
        let (host, name) = (&*self.host, self.name.as_str());
        let journals = JournalFile::new(&host.root, name);
        let mut journal = journals.load()?;
        let slots = HostSlots {
            store: &host.objects(name, None, false),
            journals: &journals,
            member: &host.member,
            environment: &host.environment,
            app: name,
            group: None,
            now: host.clock.now(),
            polling: &Polling::at(0),
        };
        act(&slots, &mut journal)
    }

    /// Gives the slot back, if this host holds it.
    pub(crate) fn give_back(&self) -> Result<(), RolloutError> {
        match self.host.is_cut_off {
            true => Ok(()),
            false => self.with(|slots, journal| slots.give_back(journal)),
        }
    }

    fn take(&self) -> Result<Option<Vec<HeldSlot>>, RolloutError> {
        self.with(|slots, journal| {
            if slots.holds_slot(journal)? {
                return Ok(None);
            }
            let taken = slots.take_slot(journal, SLOTS, None);
            if taken.as_ref().is_err_and(goes_without) {
                // Nothing was written, and each pass would ask the store to take it back.
                journal.slot = None;
                slots.journals.save(journal)?;
            }
            taken
        })
    }
}

impl ServicePermission for ServiceSlot {
    fn request(&self) -> Result<(), String> {
        if self.host.is_cut_off {
            // An operator changes this host during an outage; a timer can wait until it is over.
            return match self.by_hand {
                true => Ok(()),
                false => Err(
                    "it cannot ask for a slot: the store does not answer; `trueup converge` by hand goes without one".into(),
                ),
            };
        }
        match self.take() {
            Ok(None) => Ok(()),
            Ok(Some(held)) => {
                let (environment, name) = (&self.host.environment, &self.name);
                let waits_for = Remedy::of_slots(&held).waits_for;
                Err(format!(
                    "{waits_for} of {name}; `trueup rollout status {environment} {name}` shows more"
                ))
            }
            // A balancer that never takes a change is worse than two that take it at once.
            Err(error) if goes_without(&error) => {
                tracing::warn!("{}: it goes without a slot: {error}", self.name);
                Ok(())
            }
            Err(error) => {
                let hint = error.hint();
                let hint = hint.map_or(String::new(), |hint| format!("; {hint}"));
                Err(format!("it cannot ask for a slot: {error}{hint}"))
            }
        }
    }
}

/// Whether this host can have no slot at all.
fn goes_without(error: &RolloutError) -> bool {
    is_refusal(error) || matches!(error, RolloutError::Unconditional { .. })
}
