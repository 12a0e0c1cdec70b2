use super::tests::{KEY, observe, put};
use super::*;
use crate::ports::store::{MemoryStore, Store};

/// A store whose rollout is halted, and whose manifest names a channel for these transitions.
fn halted(transitions: &str) -> MemoryStore {
    let store = MemoryStore::new();
    store.set_server_time("2026-11-29T10:10:00Z".parse().unwrap());
    let sha = "1".repeat(40);
    let settings = format!("{{notify: {{ops: [{transitions}]}}}}");
    let manifest = format!("production:\n  _settings: {settings}\n  shop: {{sha: {sha}}}\n");
    put(&store, "sha_number.yml", &manifest);
    let register = format!(
        r#"{{"version": 1, "environment": "production", "app": "shop", "nonce": "00000000000000c3", "slots": 1,
        "entries": [{{"sha": "{sha}", "generation": 0, "opened": "2026-11-29T10:00:07Z", "opened_by": "web1", "epoch": 0,
        "halt": {{"cause": "environment", "by": "web1", "reason": "no database"}}}}]}}"#
    );
    put(&store, KEY, &register);
    store
}

fn put_record(store: &MemoryStore, id: &str, state: &str) {
    let board = format!(
        r#"{{"version": 1, "nonce": "00000000000000c3", "records": [{{"id": "{id}", "channel": "ops", "by": "web2",
        "claim": "00000000000000c4", "at": "2026-11-29T10:01:00Z", "state": "{state}"}}]}}"#
    );
    put(store, "notices/production/shop.json", &board);
}

/// The id of the notice, which all hosts compute alike.
fn halted_id(store: &MemoryStore) -> String {
    use crate::notify::{Subject, Wanted, register_notices};
    let sha = Sha::parse(&"1".repeat(40)).unwrap();
    let body = match store.get(KEY, None).unwrap() {
        crate::ports::store::GetOutcome::Object(found) => found.body,
        missing => panic!("{missing:?}"),
    };
    let register = serde_json::from_slice(&body).unwrap();
    let wanted = Wanted {
        sha: sha.clone(),
        published: sha,
        previous: None,
        publication: Default::default(),
        generation: None,
        hold: None,
        notes: Vec::new(),
        on_failure: crate::desired::OnFailure::Halt,
    };
    let subject = Subject {
        environment: "production",
        app: "shop",
        node: "web9",
        now: Timestamp::UNIX_EPOCH,
    };
    register_notices(subject, &wanted, &register)[0].id.clone()
}

#[test]
fn status_names_the_notices_that_no_host_has_sent() {
    let store = halted("halted");
    let unsent = |store: &MemoryStore| observe(store, "shop").unwrap().unsent;
    assert_eq!(unsent(&store), [""; 0], "hosts are about to");
    store.set_server_time("2026-11-29T10:11:30Z".parse().unwrap());
    assert_eq!(
        unsent(&store),
        ["halted to ops: no host has sent it; does one define this channel?"]
    );
    let id = halted_id(&store);
    put_record(&store, &id, "claimed");
    assert_eq!(unsent(&store), ["halted to ops: web2 is at it"]);
    put_record(&store, &id, "failed");
    assert!(unsent(&store)[0].starts_with("halted to ops: it failed, last on web2"));
    put_record(&store, &id, "sent");
    assert_eq!(unsent(&store), [""; 0]);
    // Nobody is to know of it.
    let other = halted("done");
    other.set_server_time("2026-11-29T10:11:30Z".parse().unwrap());
    assert_eq!(unsent(&other), [""; 0]);
}
