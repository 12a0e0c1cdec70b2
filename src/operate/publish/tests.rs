use std::collections::BTreeMap;

use super::*;
use crate::operate::commits::{Repositories, Revision, Source};
use crate::ports::git::testing::GitBench;
use crate::ports::store::{MemoryStore, WriteCondition};

const KEY: &str = "sha_number.yml";

/// A store with the manifest of `shop`, whose canary is in zone `a`, and a host that runs it in this zone.
fn store_with_host(zone: &str) -> MemoryStore {
    let store = MemoryStore::new();
    let put = |key: &str, body: &str| {
        store
            .put(key, body.as_bytes(), WriteCondition::Always)
            .unwrap();
    };
    let sha = "a".repeat(40);
    put(
        KEY,
        &format!(
            "production:\n  shop:\n    sha: {sha}\n    rollout: {{canary: {{match: {{zone: a}}}}}}\n"
        ),
    );
    put(
        "nodes/production/web1.json",
        &format!(
            r#"{{"version": 1, "node": "web1", "environment": "production", "rollouts": true, "tags": {{"zone": "{zone}"}},
            "apps": {{"shop": {{"wanted": null, "actual": null, "state": "absent"}}}},
            "last_pass": {{"at": "2026-11-21T03:00:12Z", "outcome": "converged"}}}}"#
        ),
    );
    // Of another environment: it does not count.
    put(
        "nodes/staging/web1.json",
        r#"{"version": 1, "node": "web1", "environment": "staging", "tags": {"zone": "a"},
        "apps": {"shop": {"wanted": null, "actual": null, "state": "absent"}},
        "last_pass": {"at": "2026-11-21T03:00:12Z", "outcome": "converged"}}"#,
    );
    store
}

fn publish_shop(store: &dyn Store) -> Result<PublishSummary, String> {
    let request = PublishRequest {
        shas: vec![("shop".into(), Sha::parse(&"b".repeat(40)).unwrap())],
        ..PublishRequest::new("production", "2026-11-21T04:43:01Z".parse().unwrap())
    };
    let hour = Duration::from_secs(3600);
    let target = PublishTarget {
        store,
        manifest_key: KEY,
        gone_after: hour,
        signing: None,
    };
    publish(&target, request, false).map_err(|error| error.to_string())
}

fn put(store: &MemoryStore, key: &str, body: &str) {
    let body = body.as_bytes();
    store.put(key, body, WriteCondition::Always).unwrap();
}

/// A store whose app wants `a`, and wanted `c` before; with this entry of `a` in the register, if any.
fn store_with_register(entry: &str) -> MemoryStore {
    let store = store_with_host("a");
    let (a, c) = ("a".repeat(40), "c".repeat(40));
    let text = format!("generation: 1\nproduction:\n  shop: {{sha: {a}, previous: {c}}}\n");
    put(&store, KEY, &text);
    let register = format!(
        r#"{{"version": 1, "environment": "production", "app": "shop", "nonce": "00000000000000c3", "slots": 1, "entries": [
        {{"sha": "{c}", "generation": 0, "opened": "2026-11-29T10:00:07Z", "opened_by": "web1", "was_done": true}}{entry}]}}"#
    );
    put(&store, REGISTER, &register);
    store
}

const REGISTER: &str = "rollouts/production/shop.json";

/// An entry of the sha `a`.
fn entry(more: &str) -> String {
    let a = "a".repeat(40);
    format!(
        r#", {{"sha": "{a}", "generation": 1, "opened": "2026-11-29T10:00:07Z", "opened_by": "web1"{more}}}"#
    )
}

/// The first letter of `previous` after a publication, and the warnings.
fn previous_after(store: &MemoryStore) -> (String, Vec<String>) {
    let published = publish_shop(store).unwrap();
    let GetOutcome::Object(object) = store.get(KEY, None).unwrap() else {
        panic!("it is gone");
    };
    let text = String::from_utf8(object.body).unwrap();
    let previous = text.split("previous: ").nth(1);
    let previous = previous.map_or("", |rest| &rest[..1]);
    let warnings = published.warnings.iter().map(Problem::to_string);
    (previous.to_owned(), warnings.collect())
}

#[test]
fn sha_that_was_never_proven_does_not_become_previous() {
    let (previous, warnings) = previous_after(&store_with_register(&entry("")));
    assert_eq!(previous, "c");
    assert_eq!(
        warnings,
        ["production/shop: `previous` stays ccccccc, because aaaaaaa was never proven on any host"]
    );
    let (previous, _) = previous_after(&store_with_register(""));
    assert_eq!(previous, "c", "nobody had begun it");
    for proven in [", \"proven\": true", ", \"was_done\": true"] {
        let (previous, warnings) = previous_after(&store_with_register(&entry(proven)));
        assert_eq!((previous.as_str(), warnings.len()), ("a", 0), "{proven}");
    }
    // The register was begun again; the marks are still there.
    let store = store_with_register("");
    put(
        &store,
        &format!("at/production/shop/{}/web1", "a".repeat(40)),
        "",
    );
    assert_eq!(previous_after(&store).0, "a");
}

#[test]
fn way_back_does_not_make_what_it_leaves_previous() {
    // Also of a sha that hosts served.
    for (rollout, warns) in [("", true), (", rollout: none", false)] {
        let store = store_with_register(&entry(", \"was_done\": true"));
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let text = format!("production:\n  shop: {{sha: {a}, previous: {b}{rollout}}}\n");
        put(&store, KEY, &text);
        let (previous, warnings) = previous_after(&store);
        // It is the wanted sha, and says nothing.
        assert_eq!((previous.as_str(), warnings.len() == 1), ("b", warns));
        let warning = warnings.first().map_or("", String::as_str);
        let expected = "shop goes back to bbbbbbb, so aaaaaaa does not become `previous`";
        assert_eq!(warning.contains(expected), warns, "{warning}");
    }
}

#[test]
fn quarantined_sha_does_not_become_previous_until_it_is_lifted() {
    let key = format!("quarantine/production/shop/{}.json", "a".repeat(40));
    for (in_force, expected) in [(true, "c"), (false, "a")] {
        let store = store_with_register(&entry(", \"proven\": true"));
        let quarantine = format!(
            r#"{{"version": 1, "nonce": "00000000000000c3", "epoch": 0, "in_force": {in_force}, "by": "web1",
            "at": "2026-11-29T10:00:07Z", "reason": "500"}}"#
        );
        put(&store, &key, &quarantine);
        let (previous, warnings) = previous_after(&store);
        assert_eq!(
            (previous.as_str(), warnings.len()),
            (expected, usize::from(in_force))
        );
    }
}

#[test]
fn app_without_rollouts_keeps_the_sha_before_as_previous() {
    let store = store_with_register("");
    store.delete(REGISTER).unwrap();
    assert_eq!(previous_after(&store).0, "a");
    let store = store_with_register("");
    let a = "a".repeat(40);
    put(
        &store,
        KEY,
        &format!("production:\n  shop: {{sha: {a}, rollout: none}}\n"),
    );
    assert_eq!(previous_after(&store), ("a".to_owned(), Vec::new()));
}

#[test]
fn unreadable_rollouts_are_a_warning_and_change_nothing() {
    let store = store_with_register("");
    put(&store, REGISTER, "{\u{1b}");
    let (previous, warnings) = previous_after(&store);
    assert_eq!((previous.as_str(), warnings.len()), ("a", 1));
    assert!(
        warnings[0].contains("it becomes `previous`: rollouts/production/shop.json cannot be used"),
        "{warnings:?}"
    );
    assert!(!warnings[0].contains('\u{1b}'));
}

#[test]
fn hosts_that_are_too_old_for_the_entry_are_named() {
    let store = store_with_host("a");
    let key = "nodes/production/web1.json";
    let GetOutcome::Object(record) = store.get(key, None).unwrap() else {
        panic!("it is gone");
    };
    let record = String::from_utf8(record.body).unwrap();
    let old = record.replacen("\"node\"", "\"agent\": \"0.0.9\", \"node\"", 1);
    put(&store, key, &old);
    let warnings = publish_shop(&store).unwrap().warnings;
    let warnings: Vec<String> = warnings.iter().map(Problem::to_string).collect();
    assert!(
        warnings[0].starts_with(
            "web1 (0.0.9) would refuse the manifest: `rollout` of shop needs trueup 0.1.0"
        ),
        "{warnings:?}"
    );
}

#[test]
fn canary_is_compared_with_the_records_of_its_environment() {
    let published = publish_shop(&store_with_host("a")).unwrap();
    assert!(published.written && published.warnings.is_empty());
    let error = publish_shop(&store_with_host("b")).unwrap_err();
    assert!(
        error.contains("no host that runs shop has the tags zone=a"),
        "{error}"
    );
    assert!(error.ends_with("hint: their `zone` is b"), "{error}");
    // A record that cannot be read may be of the canary.
    let store = store_with_host("b");
    store
        .put("nodes/production/web2.json", b"{", WriteCondition::Always)
        .unwrap();
    let published = publish_shop(&store).unwrap();
    assert!(published.written);
    assert_eq!(published.warnings.len(), 1, "{:?}", published.warnings);
}

#[test]
fn publisher_that_loses_often_leaves_others_room() {
    let delay = |attempts| retry_delay(attempts).as_millis();
    assert_eq!([1, 2, 3, 4, 5].map(delay), [40, 80, 160, 320, 640]);
    assert_eq!([6, 8, 9, u32::MAX].map(delay), [1280, 5120, 10_000, 10_000]);
}

/// What a job of CI does that wants a commit: it decides, somebody else publishes `other`, and it writes.
fn publish_late(
    bench: &GitBench,
    (wanted, other): (&str, &str),
    is_known: bool,
) -> (Result<PublishSummary, CommandError>, String) {
    let store = MemoryStore::new();
    let sha = |text: &str| Sha::parse(text).unwrap();
    let first = bench.git(&["rev-list", "--max-parents=0", "main"]);
    put(&store, KEY, &format!("production:\n  shop: {first}\n"));
    let request = PublishRequest::new("production", "2026-11-21T04:43:01Z".parse().unwrap());
    let publish_in = |request: &PublishRequest| {
        let unsigned = testing::Unsigned {
            store: &store,
            key: KEY,
        };
        Publish::publish(&unsigned, request.clone())
    };
    let git = bench.operator(&[]);
    let source = is_known.then(|| Source::Local(bench.repository()));
    let mut repositories = Repositories::new(&git, BTreeMap::new(), source);
    let mut job = PublishRequest {
        refuses_overtaken: true,
        ..request.clone()
    };
    let commit = WantedCommit {
        app: "shop".into(),
        revision: Revision::Full(sha(wanted)),
        reference: None,
    };
    let options = LookupOptions::default();
    let known = &mut repositories;
    let mut prepared = prepare((&store, KEY), None, &[commit], options, known, &mut job).unwrap();
    let meanwhile = PublishRequest {
        shas: vec![("shop".into(), sha(other))],
        ..request
    };
    publish_in(&meanwhile).unwrap();
    let done = publish_prepared(&mut prepared, options, known, &mut job, &mut |request| {
        publish_in(request)
    });
    let GetOutcome::Object(object) = store.get(KEY, None).unwrap() else {
        panic!("it is gone");
    };
    (done, String::from_utf8(object.body).unwrap())
}

#[test]
fn older_job_does_not_publish_over_a_newer_one() {
    let bench = GitBench::new();
    bench.commit("a", "1", "First");
    let second = bench.commit("a", "2", "Second");
    let third = bench.commit("a", "3", "Third");
    bench.git(&["checkout", "--quiet", "-b", "other", &second]);
    let fork = bench.commit("b", "1", "Fork");
    bench.git(&["checkout", "--quiet", "main"]);
    let alien = "1".repeat(40);
    for (wanted, other, is_known, why) in [
        (&second, &third, true, "which is newer than"),
        (&third, &fork, true, "does not contain"),
        (&third, &alien, true, "does not have 1111111"),
        (&third, &second, false, "no repository says"),
    ] {
        let (done, manifest) = publish_late(&bench, (wanted, other), is_known);
        let error = done.unwrap_err();
        assert_eq!(error.exit(), crate::exit::Exit::Waiting);
        assert!(error.to_string().contains(why), "{error}");
        assert!(error.to_string().contains("run the job again"), "{error}");
        assert!(manifest.contains(&format!("sha: {other}")), "{manifest}");
    }
    let (done, manifest) = publish_late(&bench, (&third, &second), true);
    assert!(done.unwrap().written);
    assert!(manifest.contains(&format!("sha: {third}")), "{manifest}");
    assert!(
        manifest.contains("Third") && !manifest.contains("Second"),
        "{manifest}"
    );
    let (done, _) = publish_late(&bench, (&third, &third), false);
    assert!(!done.unwrap().written, "it is there already");
}

#[test]
fn warning_names_the_sha_that_another_publisher_set() {
    let store = store_with_host("a");
    let request = PublishRequest {
        shas: vec![("shop".into(), Sha::parse(&"b".repeat(40)).unwrap())],
        relied_on: BTreeMap::from([("shop".into(), Sha::parse(&"c".repeat(40)).ok())]),
        ..PublishRequest::new("production", "2026-11-21T04:43:01Z".parse().unwrap())
    };
    let unsigned = testing::Unsigned {
        store: &store,
        key: KEY,
    };
    let published = Publish::publish(&unsigned, request).unwrap();
    let warning = published.warnings[0].to_string();
    assert!(
        published.written && warning.contains("somebody else published aaaaaaa of shop meanwhile"),
        "{warning}"
    );
}
