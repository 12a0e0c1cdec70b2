//! Publishing what a pass is at.

use super::publisher::{CountingStore, publish};
use super::*;
use crate::settings::FleetSettings;

/// Publishes that the app is on trial, over a record of `sandbox`.
fn publish_trial(sandbox: &Sandbox, store: &CountingStore) -> bool {
    let mut app = record("web1", 1).apps["shop"].clone();
    app.state = ServingState::OnTrial;
    let pass = LastPass {
        at: fixed_time(),
        outcome: Exit::Pending,
        why: None,
    };
    let own = RecordPublisher {
        host: &sandbox.host,
        store,
        store_name: "s",
        fleet: &FleetSettings::default(),
        store_returned: false,
    };
    let apps = [("shop".to_owned(), app)].into_iter().collect();
    own.publish_progress(&apps, &pass, Duration::from_secs(1))
}

#[test]
fn progress_of_a_pass_is_written_once_over_the_last_record() {
    let (sandbox, store) = (Sandbox::empty(), CountingStore::new());
    assert!(!publish_trial(&sandbox, &store), "no record to write over");
    assert_eq!(store.take_writes(), 0);
    let own = record("web1", 1);
    publish(&sandbox, &store, &own);
    store.take_writes();
    for writes in [1, 0] {
        assert!(publish_trial(&sandbox, &store));
        assert_eq!(store.take_writes(), writes);
    }
    let stored = store.stored_record("web1");
    assert_eq!(stored.apps["shop"].state, ServingState::OnTrial);
    assert_eq!(stored.last_pass.outcome, Exit::Pending);
    assert_eq!(stored.ports, own.ports);
    // The end of the pass.
    assert!(publish(&sandbox, &store, &own).is_empty());
    assert_eq!(store.stored_record("web1"), own);
}

#[test]
fn progress_that_the_store_does_not_answer_is_overwritten_by_the_end() {
    let (sandbox, store) = (Sandbox::empty(), CountingStore::new());
    let own = record("web1", 1);
    publish(&sandbox, &store, &own);
    store.inner.set_unreachable(true);
    assert!(!publish_trial(&sandbox, &store));
    store.inner.set_unreachable(false);
    store.take_writes();
    assert!(publish(&sandbox, &store, &own).is_empty());
    assert_eq!(
        store.take_writes(),
        1,
        "it may have been written all the same"
    );
    publish(&sandbox, &store, &own);
    assert_eq!(store.take_writes(), 0);
}
