//! A store for work that may be missed rather than waited for.

use std::cell::Cell;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{Etag, GetOutcome, ObjectMeta, PutOutcome, Store, StoreError, WriteCondition};
use crate::ports::clock::Clock;

/// A store whose operations end at one deadline, all together, and of which none is tried after one without an answer.
pub(crate) struct Budget<'a> {
    store: &'a dyn Store,
    clock: &'a dyn Clock,
    until: Instant,
    is_unreachable: Cell<bool>,
}

impl<'a> Budget<'a> {
    /// The time for the operations begins now.
    pub(crate) fn new(store: &'a dyn Store, clock: &'a dyn Clock, time: Duration) -> Budget<'a> {
        Budget {
            store,
            clock,
            until: clock.monotonic_now() + time,
            is_unreachable: Cell::new(false),
        }
    }

    /// The time until the deadline.
    pub(crate) fn left(&self) -> Duration {
        self.until
            .saturating_duration_since(self.clock.monotonic_now())
    }

    /// Runs an operation that takes at most the time that it is given.
    fn run<T>(
        &self,
        operation: impl FnOnce(Duration) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let left = self.left();
        if self.is_unreachable.get() || left.is_zero() {
            return Err(StoreError::Unreachable {
                store: self.store.address().to_owned(),
                why: "the time for it is over".to_owned(),
                hint: "it is tried again in a later pass",
            });
        }
        let done = operation(left);
        let is_unreachable = matches!(done, Err(StoreError::Unreachable { .. }));
        self.is_unreachable.set(is_unreachable);
        done
    }
}

impl Store for Budget<'_> {
    fn address(&self) -> &str {
        self.store.address()
    }

    fn get(&self, key: &str, known: Option<&Etag>) -> Result<GetOutcome, StoreError> {
        self.run(|left| self.store.get_within(left, key, known))
    }

    fn put(
        &self,
        key: &str,
        body: &[u8],
        when: WriteCondition<'_>,
    ) -> Result<PutOutcome, StoreError> {
        self.run(|left| self.store.put_within(left, key, body, when))
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        self.run(|left| self.store.list_within(left, prefix))
    }

    fn list_within(&self, limit: Duration, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        self.run(|left| self.store.list_within(left.min(limit), prefix))
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.run(|left| self.store.delete_within(left, key))
    }

    fn server_time(&self) -> Option<Timestamp> {
        self.store.server_time()
    }
}
