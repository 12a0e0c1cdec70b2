//! The slots of an app that one node holds, for the operator who says that it does not come back.

use super::identity::Nonce;
use super::object::{MAX_OBJECT, MAX_SLOTS, RolloutError, parse};
use super::objects::{StoreObjects, is_refusal};
use super::slot::Slot;
use crate::ports::store::GetOutcome;

/// The slots of a node.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeSlots {
    /// By number, each with the nonce of the write that took it.
    pub held: Vec<(u32, Nonce)>,
    /// Why some could not be looked at, a line each.
    pub unread: Vec<String>,
}

impl StoreObjects<'_> {
    /// The slots that a node holds, by its name. `in_force`: the number of slots; after it was lowered, there are more.
    pub(crate) fn slots_of(&self, node: &str, in_force: u32) -> Result<NodeSlots, RolloutError> {
        let prefix = self.slots_prefix();
        let numbers: Vec<u32> = match self.store.list(&prefix).map_err(RolloutError::from) {
            Ok(listed) => {
                let names = listed.iter().filter_map(|object| {
                    let name = object.key.strip_prefix(&prefix)?;
                    name.strip_suffix(".json")?.parse().ok()
                });
                names.filter(|number| *number < MAX_SLOTS).collect()
            }
            // Hosts need no such permission, and an operator may have that of a host.
            Err(error) if is_refusal(&error) => (0..in_force.min(MAX_SLOTS)).collect(),
            Err(error) => return Err(error),
        };
        let keys = numbers.iter().map(|number| self.slot_key(*number));
        let keys: Vec<String> = keys.collect();
        let mut slots = NodeSlots::default();
        self.store
            .get_many(&keys, MAX_OBJECT, &mut |index, answer| {
                let slot: Result<Slot, RolloutError> = match answer {
                    Ok(GetOutcome::Object(found)) => parse(&keys[index], MAX_OBJECT, &found.body),
                    Ok(GetOutcome::Missing | GetOutcome::Unchanged) => return,
                    Err(error) => Err(error.into()),
                };
                match slot {
                    Ok(slot) => {
                        let is_holder =
                            slot.holder.is_some_and(|holder| holder.member.node == node);
                        let held = is_holder.then_some((numbers[index], slot.nonce));
                        slots.held.extend(held);
                    }
                    Err(error) => slots.unread.push(error.to_string()),
                }
            });
        slots.held.sort_unstable();
        Ok(slots)
    }
}
