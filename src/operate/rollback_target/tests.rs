use super::*;
use crate::ports::store::{MemoryStore, Store, WriteCondition};
use crate::settings::FleetSettings;

fn sha(letter: &str) -> String {
    letter.repeat(40)
}

fn put(store: &MemoryStore, key: &str, body: &str) {
    let when = WriteCondition::Always;
    store.put(key, body.as_bytes(), when).unwrap();
}

/// An app that wants `d`, with these entries in its register: a letter, and what is known of it.
fn store(more: &str, entries: &[(&str, &str)]) -> MemoryStore {
    let store = MemoryStore::new();
    let manifest = format!("production:\n  shop: {{sha: {}{more}}}\n", sha("d"));
    put(&store, "sha_number.yml", &manifest);
    let entries = entries.iter().map(|(letter, known)| {
        format!(
            r#"{{"sha": "{}", "generation": 1, "opened": "2026-11-29T10:00:07Z", "opened_by": "web1"{known}}}"#,
            sha(letter)
        )
    });
    let entries: Vec<String> = entries.collect();
    let register = format!(
        r#"{{"version": 1, "environment": "production", "app": "shop", "nonce": "00000000000000c3", "slots": 1, "entries": [{}]}}"#,
        entries.join(",")
    );
    put(&store, "rollouts/production/shop.json", &register);
    store
}

fn quarantine(store: &MemoryStore, letter: &str) {
    let key = format!("quarantine/production/shop/{}.json", sha(letter));
    let body = r#"{"version": 1, "nonce": "00000000000000c3", "epoch": 0, "in_force": true, "by": "web1",
        "at": "2026-11-29T10:00:07Z", "reason": "500"}"#;
    put(store, &key, body);
}

fn find(store: &dyn Store, to: Option<&str>) -> Result<(String, RollbackSource), String> {
    let fleet = FleetSettings::default();
    let target = RolloutTarget {
        store,
        environment: "production",
        app: "shop",
        manifest_key: "sha_number.yml",
        fleet: &fleet,
    };
    let plan = find_target(&target, to);
    plan.map(|plan| (plan.to.as_str()[..1].to_owned(), plan.source))
        .map_err(|error| error.problems()[0].to_string())
}

const DONE: &str = r#", "was_done": true"#;
const PROVEN: &str = r#", "proven": true"#;

#[test]
fn rollback_goes_to_the_last_sha_before_that_hosts_served() {
    let served = Ok(("b".to_owned(), RollbackSource::Served));
    let all = [("a", DONE), ("b", PROVEN), ("c", ""), ("d", "")];
    assert_eq!(find(&store("", &all), None), served);
    // What came later, and was given up, is not before it.
    let later = [("b", DONE), ("d", DONE), ("c", DONE)];
    assert_eq!(find(&store("", &later), None), served);
    // One that is wanted again.
    let again = [("a", DONE), ("d", DONE), ("b", DONE), ("d", "")];
    assert_eq!(find(&store("", &again), None), served);
    let store_of_all = store("", &all);
    quarantine(&store_of_all, "b");
    let before = Ok(("a".to_owned(), RollbackSource::Served));
    assert_eq!(find(&store_of_all, None), before);
}

#[test]
fn rollback_from_behind_a_hold_begins_at_what_it_holds() {
    let hold = format!(", hold: {{sha: {}, reason: r, by: ana}}", sha("b"));
    let all = [("a", DONE), ("b", DONE), ("d", "")];
    let expected = Ok(("a".to_owned(), RollbackSource::Served));
    assert_eq!(find(&store(&hold, &all), None), expected);
}

#[test]
fn previous_of_the_manifest_counts_where_no_rollout_is_known() {
    let previous = format!(", previous: {}", sha("c"));
    let expected = Ok(("c".to_owned(), RollbackSource::Previous));
    assert_eq!(find(&store(&previous, &[]), None), expected);
    let refused = find(&store("", &[]), None).unwrap_err();
    assert!(
        refused.starts_with("production/shop: there is no sha before ddddddd that hosts served"),
        "{refused}"
    );
}

#[test]
fn named_sha_may_be_short_if_the_fleet_knows_it_and_is_not_quarantined() {
    let store = store("", &[("a", DONE), ("b", DONE), ("d", "")]);
    let asked = |letter: &str| Ok((letter.to_owned(), RollbackSource::Asked));
    assert_eq!(find(&store, Some("aaaaaaa")), asked("a"));
    assert_eq!(find(&store, Some(&sha("e"))), asked("e"));
    let refused = find(&store, Some("eeeeeee")).unwrap_err();
    assert!(
        refused.starts_with("--to: `eeeeeee` is a short sha"),
        "{refused}"
    );
    quarantine(&store, "a");
    let refused = find(&store, Some("aaaa")).unwrap_err();
    assert!(
        refused.starts_with("production/shop: aaaaaaa is quarantined: 500"),
        "{refused}"
    );
}
