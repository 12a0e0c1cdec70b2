//! What a publisher knows from the history: older manifests, removed environments, expired keys.

use super::*;
use crate::ports::store::{ObjectMeta, double};

#[test]
fn replayed_manifest_is_neither_edited_nor_applied_under_its_old_number() {
    let keys = Keys::new(&["ana"]);
    let mut bench = Bench::new(Some(keys.signers(&[("ana", "")])));
    let ana = |namespace: &str, text: &str| keys.signing_key("ana").sign(namespace, text);
    bench
        .publish("production", "1", Some(&signing(&ana, None)))
        .unwrap();
    let first = bench.text();
    bench
        .publish("production", "2", Some(&signing(&ana, None)))
        .unwrap();
    assert_eq!(bench.pass(), Ok("2".into()));
    bench.put(&first);
    let refused = bench.publish("production", "3", Some(&signing(&ana, None)));
    let refused = refused.unwrap_err();
    assert!(
        refused.contains("is older than the history: production was at generation 2 already"),
        "{refused}"
    );
    assert_eq!(bench.text(), first, "nothing was written");
    // A publisher who does not see the history.
    bench.store.delete("history/production/2.yml").unwrap();
    bench
        .publish("production", "3", Some(&signing(&ana, None)))
        .unwrap();
    let refusal = bench.refusal();
    assert!(
        refusal.contains("it is 2, and this host has applied another 2: an older manifest was"),
        "{refusal}"
    );
    // Without signers a hand edit needs no new number.
    bench.signers = None;
    assert_eq!(bench.pass(), Ok("3".into()));
}

/// A store in which somebody begins an environment while another one looks at its history.
struct BusyHistory<'a> {
    store: &'a MemoryStore,
    begin: std::cell::RefCell<Option<Box<dyn FnOnce() + 'a>>>,
}

impl double::StoreDouble for BusyHistory<'_> {
    fn inner(&self) -> &dyn Store {
        self.store
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        if let Some(begin) = self.begin.take() {
            begin();
        }
        self.store.list(prefix)
    }
}

#[test]
fn environment_that_has_just_begun_is_not_taken_for_a_removed_one() {
    for text in [None, Some(format!("staging: {{shop: {SHA}}}\n"))] {
        let keys = Keys::new(&["ana"]);
        let bench = Bench::new(Some(keys.signers(&[("ana", "")])));
        text.iter().for_each(|text| bench.put(text));
        let ana = |namespace: &str, text: &str| keys.signing_key("ana").sign(namespace, text);
        let begin = || {
            let result = bench.publish("production", "1", Some(&signing(&ana, None)));
            result.unwrap();
        };
        let store = BusyHistory {
            store: &bench.store,
            begin: std::cell::RefCell::new(Some(Box::new(begin))),
        };
        let request = PublishRequest {
            shas: vec![("shop".into(), Sha::parse(&"2".repeat(40)).unwrap())],
            create: true,
            ..PublishRequest::new("production", "2026-11-21T04:43:01Z".parse().unwrap())
        };
        let signing = signing(&ana, None);
        let (fleet, backoff) = (&mut NoHosts, &mut |_| true);
        let done = publish(&store, KEY, &request, Some(&signing), fleet, backoff);
        assert_eq!(done.unwrap().generation, Some(2));
        assert_eq!(bench.pass(), Ok("2".into()));
    }
}

#[test]
fn removed_environment_is_refused_and_so_is_a_leap() {
    let keys = Keys::new(&["ana"]);
    let bench = Bench::new(Some(keys.signers(&[("ana", "")])));
    let ana = |namespace: &str, text: &str| keys.signing_key("ana").sign(namespace, text);
    bench
        .publish("production", "1", Some(&signing(&ana, None)))
        .unwrap();
    bench.put(&format!("staging: {{shop: {SHA}}}\n"));
    let refused = bench.publish("production", "2", Some(&signing(&ana, None)));
    let refused = refused.unwrap_err();
    assert!(
        refused.contains("the history knows it: somebody removed it"),
        "{refused}"
    );
    let request = PublishRequest {
        above_fleet: Some(Vec::new()),
        ..PublishRequest::new("production", "2026-11-21T04:43:01Z".parse().unwrap())
    };
    let signing = signing(&ana, None);
    let refused = publish(
        &bench.store,
        KEY,
        &request,
        Some(&signing),
        &mut NoHosts,
        &mut |_| true,
    );
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("--above-fleet is for an environment")
    );
}

#[test]
fn key_that_expired_after_the_history_had_its_copy_does_not_stop_others() {
    let keys = Keys::new(&["old", "new"]);
    let bench = Bench::new(None);
    bench
        .store
        .set_server_time("2026-11-20T00:00:00Z".parse().unwrap());
    let old = |namespace: &str, text: &str| keys.signing_key("old").sign(namespace, text);
    let new = |namespace: &str, text: &str| keys.signing_key("new").sign(namespace, text);
    bench
        .publish("production", "1", Some(&signing(&old, None)))
        .unwrap();
    bench
        .store
        .set_server_time("2026-11-30T00:00:00Z".parse().unwrap());
    let signers = keys.signers(&[("old", "valid-before=\"20261125Z\""), ("new", "")]);
    let after = signing(&new, Some(&signers));
    bench.publish("production", "2", Some(&after)).unwrap();
    // One that was signed after its end.
    let own = keys.signers(&[("old", "")]);
    bench
        .publish("production", "3", Some(&signing(&old, Some(&own))))
        .unwrap_err();
}
