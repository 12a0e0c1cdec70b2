//! A store in memory, for tests: with the guarantees of the real ones, and a switch for outages.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::{
    Etag, GetOutcome, Object, ObjectMeta, PutOutcome, Store, StoreError, WriteCondition, check_key,
    check_prefix, check_size, content_etag,
};

const ADDRESS: &str = "memory:";

/// A store in memory. Clones share their objects, like handles of one store.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryStore(Arc<Mutex<MemoryState>>);

#[derive(Debug, Default)]
struct MemoryState {
    objects: BTreeMap<String, Object>,
    unreachable: bool,
    now: Option<Timestamp>,
}

impl MemoryStore {
    pub(crate) fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// Makes every operation fail as unreachable, or work again.
    pub(crate) fn set_unreachable(&self, unreachable: bool) {
        self.state().unreachable = unreachable;
    }

    /// Sets the store's own clock, which stamps later writes. Without it the store uses the clock of the
    /// machine.
    pub(crate) fn set_server_time(&self, now: Timestamp) {
        self.state().now = Some(now);
    }

    fn state(&self) -> MutexGuard<'_, MemoryState> {
        // Ignore poisoning: the panic of a test that held the lock must not be hidden by a second panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reachable_state(&self) -> Result<MutexGuard<'_, MemoryState>, StoreError> {
        let state = self.state();
        if state.unreachable {
            return Err(StoreError::Unreachable {
                store: ADDRESS.to_owned(),
                why: "cut off by the test".to_owned(),
                hint: "reconnect it",
            });
        }
        Ok(state)
    }
}

impl Store for MemoryStore {
    fn address(&self) -> &str {
        ADDRESS
    }

    fn get(&self, key: &str, known: Option<&Etag>) -> Result<GetOutcome, StoreError> {
        check_key(key)?;
        Ok(match self.reachable_state()?.objects.get(key) {
            None => GetOutcome::Missing,
            Some(object) if known == Some(&object.etag) => GetOutcome::Unchanged,
            Some(object) => GetOutcome::Object(object.clone()),
        })
    }

    fn put(
        &self,
        key: &str,
        body: &[u8],
        when: WriteCondition<'_>,
    ) -> Result<PutOutcome, StoreError> {
        check_key(key)?;
        check_size(ADDRESS, key, body.len() as u64)?;
        let mut state = self.reachable_state()?;
        let current = state.objects.get(key).map(|object| &object.etag);
        let holds = match when {
            WriteCondition::Always => true,
            WriteCondition::Absent => current.is_none(),
            WriteCondition::Matches(etag) => current == Some(etag),
        };
        if !holds {
            return Ok(PutOutcome::Conflict);
        }
        let etag = content_etag(body);
        let object = Object {
            body: body.to_vec(),
            etag: etag.clone(),
            modified: state.now.unwrap_or_else(Timestamp::now),
        };
        state.objects.insert(key.to_owned(), object);
        Ok(PutOutcome::Written(etag))
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        check_prefix(prefix)?;
        let state = self.reachable_state()?;
        let rows = state
            .objects
            .iter()
            .filter(|(key, _)| key.starts_with(prefix));
        Ok(rows
            .map(|(key, object)| ObjectMeta {
                key: key.clone(),
                etag: object.etag.clone(),
                modified: object.modified,
                size: object.body.len() as u64,
            })
            .collect())
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        check_key(key)?;
        self.reachable_state()?.objects.remove(key);
        Ok(())
    }

    fn server_time(&self) -> Option<Timestamp> {
        Some(self.state().now.unwrap_or_else(Timestamp::now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::store::conformance;

    #[test]
    fn memory_store_passes_the_conformance_suite() {
        let store = MemoryStore::new();
        conformance::run(&|| Box::new(store.clone()));
    }

    #[test]
    fn unreachable_store_fails_every_operation_and_keeps_objects() {
        let store = MemoryStore::new();
        store.put("kept", b"1", WriteCondition::Always).unwrap();
        store.set_unreachable(true);
        let cut = |error| matches!(error, StoreError::Unreachable { .. });
        assert!(cut(store.get("kept", None).unwrap_err()));
        assert!(cut(store
            .put("kept", b"2", WriteCondition::Always)
            .unwrap_err()));
        assert!(cut(store.list("").unwrap_err()));
        assert!(cut(store.delete("kept").unwrap_err()));
        store.set_unreachable(false);
        let GetOutcome::Object(kept) = store.get("kept", None).unwrap() else {
            panic!("the object is gone");
        };
        assert_eq!(kept.body, b"1");
    }

    #[test]
    fn objects_carry_the_server_time() {
        let store = MemoryStore::new();
        let then: Timestamp = "2026-11-21T04:43:01Z".parse().unwrap();
        store.set_server_time(then);
        store.put("seen", b"", WriteCondition::Always).unwrap();
        assert_eq!(store.list("").unwrap()[0].modified, then);
    }
}
