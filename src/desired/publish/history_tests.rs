use std::cell::Cell;

use super::history::HistoryMemory;
use super::tests::{KEY, NoHosts, order, stored_manifest};
use super::*;
use crate::ports::store::{
    Etag, GetOutcome, MemoryStore, PutOutcome, StoreError, WriteCondition, double,
};

/// A store in which others publish in another environment just before each write of the manifest; it counts requests for
/// copies of generations.
struct BusyNeighbour {
    store: MemoryStore,
    times: Cell<u32>,
    /// They do so before each write of a copy instead: while the publisher prepares.
    is_early: bool,
    copies: Cell<u32>,
}

impl BusyNeighbour {
    fn new(is_early: bool) -> BusyNeighbour {
        BusyNeighbour {
            store: MemoryStore::new(),
            times: Cell::new(0),
            is_early,
            copies: Cell::new(0),
        }
    }
}

impl double::StoreDouble for BusyNeighbour {
    fn inner(&self) -> &dyn Store {
        &self.store
    }

    fn get(&self, key: &str, known: Option<&Etag>) -> Result<GetOutcome, StoreError> {
        let is_copy = key.starts_with("history/production/");
        self.copies.set(self.copies.get() + u32::from(is_copy));
        self.store.get(key, known)
    }

    fn put(
        &self,
        key: &str,
        body: &[u8],
        when: WriteCondition<'_>,
    ) -> Result<PutOutcome, StoreError> {
        let is_copy = key.starts_with("history/production/");
        self.copies.set(self.copies.get() + u32::from(is_copy));
        let is_their_turn = match self.is_early {
            true => is_copy,
            false => key == KEY,
        };
        if let Some(left) = self.times.get().checked_sub(1).filter(|_| is_their_turn) {
            self.times.set(left);
            let other = PublishRequest {
                environment: "staging".into(),
                ..order(&format!("other-{left}"), "0")
            };
            publish(&self.store, KEY, &other, None, &mut NoHosts, &mut |_| true).unwrap();
        }
        self.store.put(key, body, when)
    }
}

#[test]
fn acts_on_another_environment_cost_no_more_requests_to_the_history() {
    let mut requests = Vec::new();
    for times in [0, 7] {
        let store = BusyNeighbour::new(false);
        let publish = |letter| {
            let order = order("shop", letter);
            publish(&store, KEY, &order, None, &mut NoHosts, &mut |_| true).unwrap()
        };
        publish("a");
        store.times.set(times);
        store.copies.set(0);
        publish("b");
        assert_eq!(store.times.get(), 0);
        requests.push(store.copies.get());
    }
    // The copy of before is written (it is there) and compared, and that of the new generation written.
    assert_eq!(requests, [3, 3]);
}

#[test]
fn act_on_another_environment_while_one_prepares_costs_no_pause() {
    let store = BusyNeighbour::new(true);
    let publish = |letter| {
        let order = order("shop", letter);
        let pause = &mut |_| panic!("nobody else acted on this environment");
        publish(&store, KEY, &order, None, &mut NoHosts, pause).unwrap()
    };
    publish("a");
    store.times.set(1);
    assert_eq!(publish("b").generation, Some(2));
    let (manifest, _) = stored_manifest(&store);
    assert!(manifest.environments["staging"].has_app("other-0"));
}

#[test]
fn history_is_asked_again_when_its_environment_has_changed() {
    let store = BusyNeighbour::new(false);
    let mut memory = HistoryMemory::default();
    let mut ask = |app: &str| {
        let order = order(app, "a");
        publish(&store, KEY, &order, None, &mut NoHosts, &mut |_| true).unwrap();
        let (_, body) = stored_manifest(&store);
        [0, 1].map(|_| {
            store.copies.set(0);
            let facts = memory.facts(&store, KEY, &body, "production").unwrap();
            assert!(facts.copied.is_some() && facts.next.is_none());
            store.copies.get()
        })
    };
    assert_eq!(ask("shop"), [2, 0]);
    assert_eq!(ask("blog"), [2, 0]);
}
