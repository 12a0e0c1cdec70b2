//! What is left of a bake, by the store's clock.

use jiff::{SignedDuration, Timestamp};

use super::tests::{KEY, observe, open_register, put, store};

#[test]
fn canary_shows_how_long_it_bakes_at_least() {
    let store = store(", rollout: {canary: {hosts: 1, bake: 5m}}");
    let start: Timestamp = "2026-11-29T10:00:00Z".parse().unwrap();
    store.set_server_time(start);
    put(
        &store,
        KEY,
        &open_register(r#""canaries": [{"node": "web1", "passed": false}]"#),
    );
    let left = |seconds: i64| -> Vec<(String, u64)> {
        store.set_server_time(start + SignedDuration::from_secs(seconds));
        let view = observe(&store, "shop").unwrap();
        let bakes = view.bakes.into_iter();
        bakes.map(|bake| (bake.node, bake.at_least_s)).collect()
    };
    assert_eq!(left(0), [], "it is not proven");
    put(
        &store,
        &format!("at/production/shop/{}/web1", "1".repeat(40)),
        "",
    );
    assert_eq!(left(170), [("web1".to_owned(), 130)]);
    assert_eq!(left(900), [("web1".to_owned(), 0)]);
    assert_eq!(left(-86_400), [("web1".to_owned(), 300)]);
}
