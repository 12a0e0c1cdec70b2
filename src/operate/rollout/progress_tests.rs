//! Progress by the store's clock, whatever that of the operator says.

use jiff::{SignedDuration, Timestamp};

use super::tests::{KEY, observe, open_register, put, store};
use crate::exit::Exit;
use crate::ports::store::MemoryStore;

/// Sets the store's clock to so many minutes after its first day.
fn set_minute(store: &MemoryStore, minute: i64) {
    let start: Timestamp = "2026-11-29T10:00:00Z".parse().unwrap();
    store.set_server_time(start + SignedDuration::from_mins(minute));
}

/// A store whose manifest and register are written at minute 0.
fn rollout(policy: &str, entry: &str) -> MemoryStore {
    let store = store("");
    set_minute(&store, 0);
    let sha = "1".repeat(40);
    let text = format!(
        "production:\n  cart: {sha}\n  shop: {{sha: {sha}, rollout: {{progress_deadline: 30m{policy}}}}}\n"
    );
    put(&store, "sha_number.yml", &text);
    if !entry.is_empty() {
        put(&store, KEY, &open_register(entry));
    }
    store
}

fn mark(store: &MemoryStore, app: &str, node: &str) {
    let sha = "1".repeat(40);
    put(store, &format!("at/production/{app}/{sha}/{node}"), "");
}

/// The outcome at a minute, and why the rollout is overdue.
fn at(store: &MemoryStore, minute: i64) -> (Exit, Option<String>) {
    set_minute(store, minute);
    let view = observe(store, "shop").unwrap();
    (view.outcome, view.overdue)
}

const PENDING: (Exit, Option<String>) = (Exit::Pending, None);

#[test]
fn rollout_without_progress_is_overdue_until_the_next_host_is_proven() {
    let store = rollout("", "\"proven\": true");
    assert_eq!(at(&store, 29), PENDING);
    let why = "no progress for 1800 s, and at most 1800 s are expected";
    assert_eq!(at(&store, 30), (Exit::Failed, Some(why.to_owned())));
    let view = observe(&store, "shop").unwrap();
    assert!(
        view.waits_for
            .unwrap()
            .contains("`trueup fleet --env production --app shop`")
    );
    mark(&store, "shop", "web1");
    assert_eq!(at(&store, 59), PENDING);
    assert_eq!(at(&store, 60).0, Exit::Failed);
    let slot = r#"{"version": 1, "nonce": "00000000000000c4", "holder": {"node": "web2", "machine": "m", "since": "2026-11-29T10:00:07Z"}}"#;
    put(&store, "slots/production/shop/0.json", slot);
    let why = observe(&store, "shop").unwrap().waits_for.unwrap();
    assert!(
        why.contains("web2") && why.contains("`trueup rollout break-slot production shop 0"),
        "{why}"
    );
}

#[test]
fn rollout_that_nobody_begins_is_overdue_since_its_manifest() {
    let store = rollout("", "");
    assert_eq!(at(&store, 29), PENDING);
    assert_eq!(at(&store, 31).0, Exit::Failed);
}

#[test]
fn restart_makes_progress_with_its_request_and_each_host() {
    let store = rollout("", "\"end\": \"done\"");
    for node in ["web1", "web2"] {
        mark(&store, "shop", node);
    }
    set_minute(&store, 600);
    for node in ["web1", "web2"] {
        put(&store, &format!("nodes/production/{node}.json"), "{}");
    }
    let sha = "1".repeat(40);
    let text = format!(
        "production:\n  shop: {{sha: {sha}, restart_requested_at: 1970-01-01T00:00:00Z, rollout: {{progress_deadline: 30m}}}}\n"
    );
    put(&store, "sha_number.yml", &text);
    assert_eq!(at(&store, 629), PENDING);
    assert_eq!(at(&store, 630).0, Exit::Failed);
    put(&store, "at/production/shop/restart-0/web1", "");
    assert_eq!(at(&store, 659), PENDING);
    assert_eq!(at(&store, 660).0, Exit::Failed);
}

#[test]
fn bake_and_min_ready_are_no_lack_of_progress() {
    let canary = "\"canaries\": [{\"node\": \"web1\", \"passed\": false}]";
    let store = rollout(", canary: {hosts: 1, bake: 1h}", canary);
    mark(&store, "shop", "web1");
    assert_eq!(at(&store, 89), PENDING);
    assert_eq!(at(&store, 90).0, Exit::Failed);
    let store = rollout(", min_ready: 10m", "\"proven\": true");
    assert_eq!(at(&store, 39), PENDING);
    assert_eq!(at(&store, 40).0, Exit::Failed);
}

#[test]
fn progress_of_an_app_that_comes_first_counts() {
    let store = rollout(", after: [cart]", "\"proven\": false");
    set_minute(&store, 25);
    mark(&store, "cart", "web1");
    assert_eq!(at(&store, 54), PENDING);
    assert_eq!(at(&store, 55).0, Exit::Failed);
}

#[test]
fn who_waits_for_a_person_or_is_done_is_not_overdue() {
    let held = rollout("", "");
    let sha = "1".repeat(40);
    let text = format!(
        "production:\n  shop: {{sha: {sha}, hold: {{reason: r, by: ana}}, rollout: {{progress_deadline: 1s}}}}\n"
    );
    put(&held, "sha_number.yml", &text);
    assert_eq!(at(&held, 600), (Exit::Waiting, None));
    let done = rollout("", "\"end\": \"done\"");
    assert_eq!(at(&done, 600), (Exit::Converged, None));
    let unlimited = store("");
    set_minute(&unlimited, 0);
    put(&unlimited, KEY, &open_register("\"proven\": true"));
    assert_eq!(at(&unlimited, 60_000), PENDING);
}
