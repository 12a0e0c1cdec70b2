use super::tests::{observe, put, store};
use crate::exit::Exit;
use crate::ports::store::MemoryStore;

/// A store whose `shop` is done, and of which a restart is asked for that web1 has not carried out.
fn store_with_restart() -> MemoryStore {
    let store = store(", restart_requested_at: 1970-01-01T00:00:00Z");
    let sha = "1".repeat(40);
    let done = format!(
        r#"{{"version": 1, "environment": "production", "app": "shop", "nonce": "00000000000000c3", "slots": 1,
        "entries": [{{"sha": "{sha}", "generation": 0, "opened": "2026-11-29T10:00:07Z", "opened_by": "web1", "epoch": 0,
        "end": "done", "was_done": true}}]}}"#
    );
    put(&store, "rollouts/production/shop.json", &done);
    put(&store, &format!("at/production/shop/{sha}/web1"), "");
    store
}

/// Writes the record of web1. `app`: further fields of `shop` in it.
fn put_record(store: &MemoryStore, app: &str, pass: &str) {
    let sha = "1".repeat(40);
    let record = format!(
        r#"{{"version": 1, "node": "web1", "environment": "production",
        "apps": {{"shop": {{"wanted": "{sha}", "actual": "{sha}", "state": "serving"{app}}}}},
        "last_pass": {{"at": "2026-11-29T10:00:07Z", {pass}}}}}"#
    );
    put(store, "nodes/production/web1.json", &record);
}

#[test]
fn host_that_cannot_carry_out_a_restart_is_named_with_its_reason() {
    const GOOD: &str = r#""outcome": "converged""#;
    let store = store_with_restart();
    let waits_for = |app: &str, pass: &str| {
        put_record(&store, app, pass);
        let view = observe(&store, "shop").unwrap();
        assert_eq!(view.outcome, Exit::Pending);
        view.waits_for
    };
    assert_eq!(waits_for("", GOOD), None, "it comes with its next pass");
    let unhealthy = r#", "outcome": "failed", "why": "shop is not serving""#;
    assert_eq!(
        waits_for(unhealthy, r#""outcome": "failed""#).unwrap(),
        "waits for the restart of web1, which cannot do it: shop is not serving; \
         `trueup converge` on web1 tries again at once, when that is mended"
    );
    let why = waits_for("", r#""outcome": "bad-input", "why": "a field is unknown""#);
    assert!(why.unwrap().contains("web1, which cannot do it: a field"));
    let masked = r#", "outcome": "waiting", "why": "an operator masked it""#;
    let why = waits_for(masked, r#""outcome": "waiting""#);
    assert!(why.unwrap().contains("an operator masked it"));
    let next = r#", "outcome": "waiting", "why": "waits for a slot: web2 has slot 0""#;
    assert_eq!(waits_for(next, r#""outcome": "waiting""#), None);
}
