use super::*;
use crate::ports::store::{MemoryStore, WriteCondition};

fn sha(letter: &str) -> String {
    letter.repeat(40)
}

fn put(store: &MemoryStore, key: &str, body: &str) {
    let when = WriteCondition::Always;
    store.put(key, body.as_bytes(), when).unwrap();
}

/// Staging wants `b`, and wanted `a` before; production has the app, too.
fn store() -> MemoryStore {
    let store = MemoryStore::new();
    let (a, b) = (sha("a"), sha("b"));
    let manifest = format!(
        "staging:\n  shop: {{sha: {b}, previous: {a}, ref: main}}\n  web: {a}\nproduction:\n  shop: {a}\n"
    );
    put(&store, "sha_number.yml", &manifest);
    store
}

fn report(store: &MemoryStore, node: &str, letter: &str, state: &str) {
    let actual = sha(letter);
    let record = format!(
        r#"{{"version": 1, "node": "{node}", "environment": "staging",
        "apps": {{"shop": {{"wanted": "{actual}", "actual": "{actual}", "state": "{state}"}}}},
        "last_pass": {{"at": "2026-11-21T03:00:12Z", "outcome": "converged"}}}}"#
    );
    put(store, &format!("nodes/staging/{node}.json"), &record);
}

fn served(store: &MemoryStore, apps: &[&str]) -> Result<Vec<ServedApp>, String> {
    let fleet = FleetSettings::default();
    let apps: Vec<String> = apps.iter().map(|app| (*app).to_owned()).collect();
    let route = ("staging", "production");
    let found = served_apps(store, "sha_number.yml", &fleet, route, &apps);
    found.map_err(|error| error.problems()[0].to_string())
}

#[test]
fn what_all_hosts_serve_is_promoted_not_what_is_wanted() {
    let store = store();
    report(&store, "web1", "a", "serving");
    report(&store, "web2", "a", "serving");
    let found = served(&store, &[]).unwrap();
    let [shop] = &found[..] else {
        panic!("only what both environments have: {found:?}");
    };
    assert_eq!((shop.sha.as_str(), shop.hosts), (&*sha("a"), 2));
    assert_eq!(shop.wanted.as_ref().map(Sha::as_str), Some(&*sha("b")));
    assert_eq!(shop.reference, None, "`main` is what is wanted");
    for node in ["web1", "web2"] {
        report(&store, node, "b", "serving");
    }
    let found = served(&store, &["shop"]).unwrap();
    assert_eq!(found[0].sha.as_str(), sha("b"));
    assert_eq!(found[0].reference.as_deref(), Some("main"));
}

#[test]
fn mixed_unproven_unknown_or_forged_shas_are_not_promoted() {
    let store = store();
    let refuse = |expected: &str| {
        let refused = served(&store, &["shop"]).unwrap_err();
        assert!(refused.starts_with(expected), "{refused}");
    };
    refuse("staging/shop: no live host serves it");
    report(&store, "web1", "a", "serving");
    report(&store, "web2", "b", "serving");
    refuse("staging/shop: its hosts serve aaaaaaa and bbbbbbb");
    report(&store, "web2", "a", "on-trial");
    refuse("staging/shop: not proven on 1 of its hosts: web2");
    // Whoever may write a record names a sha that nobody published.
    report(&store, "web1", "c", "serving");
    report(&store, "web2", "c", "serving");
    refuse("staging/shop: its hosts report ccccccc, which the manifest of staging does not name");
    let unknown = served(&store, &["shp"]).unwrap_err();
    assert!(unknown.contains("did you mean `shop`?"), "{unknown}");
}
