//! Many slots of an app at once: who holds them, and those that one node holds, for the operator who says that it does
//! not come back.

use super::identity::Nonce;
use super::object::{MAX_OBJECT, MAX_SLOTS, RolloutError, parse};
use super::objects::{StoreObjects, is_refusal};
use super::slot::{Slot, SlotHolder};
use super::store::RolloutStore;
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
    /// Who holds which of these slots, in their order. Fails if one cannot be read: nobody knows then who is out.
    pub(super) fn read_holders(
        &self,
        numbers: &[u32],
    ) -> Result<Vec<(u32, SlotHolder)>, RolloutError> {
        let keys: Vec<String> = numbers
            .iter()
            .map(|number| self.slot_key(*number))
            .collect();
        let mut read: Vec<Option<Result<Option<SlotHolder>, RolloutError>>> = Vec::new();
        read.resize_with(keys.len(), || None);
        self.store
            .get_many(&keys, MAX_OBJECT, &mut |index, answer| {
                read[index] = Some(match answer {
                    Ok(GetOutcome::Object(found)) => {
                        let slot = parse(&keys[index], MAX_OBJECT, &found.body);
                        slot.map(|slot: Slot| slot.holder)
                    }
                    Ok(GetOutcome::Missing | GetOutcome::Unchanged) => Ok(None),
                    // A single read says what is wrong with it, or succeeds.
                    Err(_) => return,
                });
            });
        let mut held = Vec::new();
        for (number, answer) in numbers.iter().zip(read) {
            let holder = match answer {
                Some(answer) => answer?,
                None => self.slot(*number)?.and_then(|found| found.object.holder),
            };
            held.extend(holder.map(|holder| (*number, holder)));
        }
        Ok(held)
    }

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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::fleet::rollout::objects::RolloutContext;
    use crate::ports::store::{
        Etag, GetResult, MemoryStore, ObjectMeta, PutOutcome, Store, StoreError, WriteCondition,
    };
    use crate::settings::FleetSettings;

    /// A store that reads many objects at once, but not the second one.
    struct BatchStore {
        inner: MemoryStore,
        single_reads: Cell<usize>,
    }

    impl Store for BatchStore {
        fn address(&self) -> &str {
            self.inner.address()
        }

        fn get(&self, key: &str, known: Option<&Etag>) -> GetResult {
            self.single_reads.set(self.single_reads.get() + 1);
            self.inner.get(key, known)
        }

        fn put(
            &self,
            key: &str,
            body: &[u8],
            when: WriteCondition<'_>,
        ) -> Result<PutOutcome, StoreError> {
            self.inner.put(key, body, when)
        }

        fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
            self.inner.list(prefix)
        }

        fn delete(&self, key: &str) -> Result<(), StoreError> {
            self.inner.delete(key)
        }

        fn get_many(&self, keys: &[String], _: usize, take: &mut dyn FnMut(usize, GetResult)) {
            for (number, key) in keys.iter().enumerate().filter(|(number, _)| *number != 1) {
                take(number, self.inner.get(key, None));
            }
        }
    }

    #[test]
    fn many_slots_are_read_at_once_and_none_is_left_out() {
        let store = BatchStore {
            inner: MemoryStore::new(),
            single_reads: Cell::new(0),
        };
        let put = |number: u32, body: &str| {
            let key = format!("slots/production/shop/{number}.json");
            let body = body.as_bytes();
            store.put(&key, body, WriteCondition::Always).unwrap();
        };
        let held = r#"{"version": 1, "nonce": "00000000000000c4", "holder": {"node": "web1", "machine": "m", "since": "2026-11-29T10:00:07Z"}}"#;
        put(0, r#"{"version": 1, "nonce": "00000000000000c4"}"#);
        put(1, held);
        put(99, held);
        let fleet = FleetSettings::default();
        let objects = StoreObjects {
            store: &store,
            context: RolloutContext {
                root: None,
                environment: "production",
                store_name: "memory:",
                manifest_key: "sha_number.yml",
                fleet: &fleet,
                signers: None,
            },
            app: "shop",
            canary: None,
            ignores_hold: false,
            observer: None,
        };
        let all: Vec<u32> = (0..100).collect();
        let found = objects.holders(&all).unwrap();
        let numbers: Vec<u32> = found.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [1, 99]);
        assert_eq!(store.single_reads.get(), 1);
        put(50, "{");
        let error = objects.holders(&all).unwrap_err().to_string();
        assert!(error.contains("slots/production/shop/50.json"), "{error}");
    }
}
