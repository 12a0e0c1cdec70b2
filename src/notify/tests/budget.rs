//! A store that does not answer costs a pass no more than its deadline.

use std::cell::Cell;
use std::time::Duration;

use super::*;
use crate::notify::deliver::Delivery;
use crate::ports::clock::Clock;
use crate::ports::store::{
    Budget, Etag, GetOutcome, MemoryStore, ObjectMeta, PutOutcome, Store, StoreError,
    WriteCondition,
};
use crate::ports::testing::FakeClock;

/// A store that never answers, and what asking it has cost.
struct Silent<'f> {
    store: MemoryStore,
    clock: &'f FakeClock,
    requests: Cell<u32>,
}

impl Silent<'_> {
    fn wait<T>(&self, limit: Duration) -> Result<T, StoreError> {
        self.requests.set(self.requests.get() + 1);
        self.clock.advance(limit.as_secs().try_into().unwrap());
        Err(StoreError::Unreachable {
            store: "memory:".into(),
            why: "no answer".into(),
            hint: "as the test says",
        })
    }
}

impl Store for Silent<'_> {
    fn address(&self) -> &str {
        self.store.address()
    }

    fn get(&self, key: &str, known: Option<&Etag>) -> Result<GetOutcome, StoreError> {
        self.get_within(Duration::from_secs(19), key, known)
    }

    fn get_within(
        &self,
        limit: Duration,
        _: &str,
        _: Option<&Etag>,
    ) -> Result<GetOutcome, StoreError> {
        self.wait(limit)
    }

    fn put(&self, _: &str, _: &[u8], _: WriteCondition<'_>) -> Result<PutOutcome, StoreError> {
        self.wait(Duration::from_secs(19))
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        self.list_within(Duration::from_secs(19), prefix)
    }

    fn list_within(&self, limit: Duration, _: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        self.wait(limit)
    }

    fn delete(&self, _: &str) -> Result<(), StoreError> {
        self.wait(Duration::from_secs(19))
    }
}

#[test]
fn silent_store_is_asked_once_for_all_apps_and_within_the_deadline() {
    let clock = FakeClock::default();
    let store = Silent {
        store: MemoryStore::new(),
        clock: &clock,
        requests: Cell::new(0),
    };
    let began = clock.now();
    let budget = Budget::new(&store, &clock, Duration::from_secs(5));
    for app in ["shop", "blog", "wiki", "mail"] {
        let mut memory = memory_with(&halted(), true, began);
        let mut delivery = Delivery {
            store: &budget,
            environment: "production",
            app,
            node: "web1",
            clock: &clock,
            random: &|| 0,
            is_ready: &|_| true,
            send: &mut |_, _| panic!("nothing was claimed"),
            save: &mut |_| {},
        };
        delivery.run(&mut memory).unwrap_err();
        // Later passes leave it alone for a while.
        assert!(!memory.is_due(clock.now()), "{app}");
    }
    assert_eq!(store.requests.get(), 1);
    assert_eq!(
        clock.now().duration_since(began),
        SignedDuration::from_secs(5)
    );
}

#[test]
fn list_for_a_message_leaves_time_to_send_it() {
    let clock = FakeClock::default();
    let store = Silent {
        store: MemoryStore::new(),
        clock: &clock,
        requests: Cell::new(0),
    };
    let budget = Budget::new(&store, &clock, Duration::from_secs(5));
    budget
        .list_within(Duration::from_secs(1), "at/production/shop/")
        .unwrap_err();
    assert_eq!(budget.left(), Duration::from_secs(4));
}
