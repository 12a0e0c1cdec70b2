//! The shrink guard holds against a writer of many or large records.

use serde_json::{Value, json};

use super::super::last_good::{LastGoodLists, MAX_MEMORY};
use super::peer_list::settings;
use super::scale::{pass, typical_record};
use super::*;
use crate::fleet::record::MAX_RECORD;
use crate::ports::root::Attrs;
use crate::testing::peak_memory;

/// Stores `number` records that all serve the app, each with `tags` tags of `text` characters.
fn put_many(store: &MemoryStore, name: &str, number: usize, tags: usize, text: usize) {
    let mut value = serde_json::to_value(typical_record("x", 0)).unwrap();
    for n in 0..tags {
        value["tags"][format!("t{n}")] = json!("x".repeat(text));
    }
    for n in 0..number {
        let node = format!("{name}{n}");
        value["node"] = json!(node);
        let body = serde_json::to_vec(&value).unwrap();
        assert!(body.len() <= MAX_RECORD);
        store
            .put(&record_key(ENV, &node), &body, WriteCondition::Always)
            .unwrap();
    }
}

fn delete_all_records(store: &MemoryStore) {
    for row in store.list("nodes/").unwrap() {
        store.delete(&row.key).unwrap();
    }
}

fn saved_lists(sandbox: &Sandbox) -> Value {
    let path = sandbox.host.state_path("fleet.json");
    let body = sandbox.host.root.read(&path, MAX_MEMORY).unwrap().unwrap();
    serde_json::from_slice(&body).unwrap()
}

fn write_lists(sandbox: &Sandbox, body: &[u8]) {
    let path = sandbox.host.state_path("fleet.json");
    let root = &sandbox.host.root;
    let folder = path.parent().unwrap();
    root.create_dir_all(folder, &Attrs::mode(0o755)).unwrap();
    root.write_atomic(&path, body, &Attrs::mode(0o644)).unwrap();
}

fn query_by_role(
    store: &MemoryStore,
    sandbox: &Sandbox,
    roles: &[&str],
) -> Vec<Result<usize, String>> {
    let (_folder, settings) = settings("");
    let mut peers = PeerSource::from_store(&settings, &sandbox.host, store, false);
    let count = |role: &&str| {
        let query = Query {
            role: (!role.is_empty()).then(|| (*role).to_owned()),
            ..Query::default()
        };
        peers.load().nodes(&query).map(|nodes| nodes.len())
    };
    let answers: Vec<_> = roles.iter().map(count).collect();
    peers.save(answers.iter().all(Result::is_ok)).unwrap();
    answers
}

#[test]
fn record_flood_does_not_disable_the_shrink_guard() {
    let store = MemoryStore::new();
    for n in 1..=3 {
        put(&store, &typical_record(&format!("web{n}"), n));
    }
    let sandbox = Sandbox::empty();
    assert_eq!(
        query_by_role(&store, &sandbox, &["app", ""]),
        [Ok(3), Ok(3)]
    );
    // Round after round, each with other nodes; new nodes join the list that stays.
    for round in 0..4 {
        put_many(&store, &format!("evil{round}x"), 2600, 115, 120);
        for answer in query_by_role(&store, &sandbox, &["app", ""]) {
            assert!(answer.unwrap() >= 3);
        }
        delete_all_records(&store);
        for answer in query_by_role(&store, &sandbox, &["app", ""]) {
            assert!(
                answer.unwrap() >= 3,
                "the list was given up in round {round}"
            );
        }
    }
}

#[test]
fn unreadable_last_good_lists_are_an_error() {
    let store = MemoryStore::new();
    put(&store, &typical_record("web1", 1));
    let sandbox = Sandbox::empty();
    assert_eq!(pass(&store, &sandbox), Ok(1));
    let (_folder, settings) = settings("");
    let url = &settings.store.url;
    for (body, expected) in [
        (&b"{\"version\": 2, torn"[..], "is corrupt"),
        (b"", "is corrupt"),
        (b"{\"version\": 3}", "it is of version 3"),
        (&vec![b' '; MAX_MEMORY + 1], "is larger than 67108864 bytes"),
    ] {
        write_lists(&sandbox, body);
        let why = pass(&store, &sandbox).unwrap_err();
        assert!(why.contains(expected), "{why}");
        assert!(why.contains("--accept-shrink"), "{why}");
        let mut peers = PeerSource::from_store(&settings, &sandbox.host, &store, false);
        assert!(peers.load().nodes(&Query::default()).is_err());
        assert!(matches!(
            peers.into_query_error(),
            Some(PeerQueryError::Lists(_))
        ));
        let mut known = PeerSource::last_known(&settings, &sandbox.host);
        assert!(known.load().nodes(&Query::default()).is_err());
        assert!(
            LastGoodLists::load(&sandbox.host, url, ENV).is_err(),
            "it stays"
        );
    }
    // An operator accepts the list.
    let mut peers = PeerSource::from_store(&settings, &sandbox.host, &store, true);
    let nodes = peers.load().nodes(&Query::default());
    assert_eq!(nodes.unwrap().len(), 1);
    peers.save(true).unwrap();
    assert_eq!(pass(&store, &sandbox), Ok(1));
    // Only a missing file counts as no history.
    let path = sandbox.host.state_path("fleet.json");
    sandbox.host.root.remove_file(&path).unwrap();
    delete_all_records(&store);
    assert_eq!(pass(&store, &sandbox), Ok(0));
}

#[test]
fn lists_of_the_previous_format_version_are_loaded() {
    let store = MemoryStore::new();
    let sandbox = Sandbox::empty();
    let peer =
        serde_json::to_value(Peer::from_record(&typical_record("web1", 1)).unwrap()).unwrap();
    let list = json!({"nodes": [peer], "sizes": [[fixed_time(), 1]]});
    let old = json!({
        "version": 1, "store": "dir:/s", "environment": ENV,
        "records": {"web1": {"etag": "x", "record": null}},
        "answers": {"nodes(app=\"shop\")": list, "nodes()": list},
    });
    write_lists(&sandbox, &serde_json::to_vec(&old).unwrap());
    assert_eq!(pass(&store, &sandbox), Ok(1), "an empty list is refused");
    let saved = saved_lists(&sandbox);
    assert_eq!(saved["version"], 2);
    assert_eq!(saved["nodes"].as_array().unwrap().len(), 1);
}

#[test]
fn nodes_shared_by_lists_are_stored_once() {
    let store = MemoryStore::new();
    put_many(&store, "web", 50, 5, 3);
    let sandbox = Sandbox::empty();
    for _ in 0..2 {
        assert_eq!(
            query_by_role(&store, &sandbox, &["app", ""]),
            [Ok(50), Ok(50)]
        );
        let saved = saved_lists(&sandbox);
        assert_eq!(saved["nodes"].as_array().unwrap().len(), 50);
        assert_eq!(saved["answers"]["nodes()"]["nodes"][49], 49);
        let lists = LastGoodLists::load(&sandbox.host, "dir:/s", ENV).unwrap();
        assert!(lists.memory_size() >= lists.to_json().len());
        let nodes = |query: &str| &lists.lists[query].nodes;
        let all = nodes("nodes()").iter().zip(nodes("nodes(role=\"app\")"));
        assert!(all.into_iter().all(|(a, b)| std::sync::Arc::ptr_eq(a, b)));
    }
}

#[test]
fn records_with_many_short_tags_stay_within_the_memory_limit() {
    let store = MemoryStore::new();
    let mut value = serde_json::to_value(typical_record("x", 0)).unwrap();
    for n in 0..90 {
        value["tags"][format!("t{n}")] = json!("");
    }
    for n in 0..12_500 {
        let node = format!("n{n}");
        value["node"] = json!(node);
        let body = serde_json::to_vec(&value).unwrap();
        store
            .put(&record_key(ENV, &node), &body, WriteCondition::Always)
            .unwrap();
    }
    let sandbox = Sandbox::empty();
    for _ in 0..2 {
        let ((), peak) = peak_memory(|| {
            query_by_role(&store, &sandbox, &["app", "", "db", "web"]);
        });
        assert!(peak < 300 << 20, "{} MiB", peak >> 20);
    }
}

#[test]
fn replaced_records_are_not_counted_twice() {
    let store = MemoryStore::new();
    let mut cache = RecordCache::empty("s", ENV);
    for round in 0..4 {
        put_many(&store, "web", 7000, 40, 4 + round);
        snapshot_of(&store, &mut cache);
    }
}

#[test]
fn record_of_another_node_cannot_list_an_address_of_this_host() {
    let store = MemoryStore::new();
    let mut evil = typical_record("evil", 1);
    evil.addresses = vec!["10.9.9.9".parse().unwrap()];
    put(&store, &evil);
    let mut both = typical_record("floating", 2);
    both.addresses.insert(0, "10.9.9.9".parse().unwrap());
    put(&store, &both);
    let mut own = typical_record("lb", 3);
    own.addresses = vec!["10.9.9.9".parse().unwrap()];
    put(&store, &own);
    let sandbox = Sandbox::empty();
    let (_folder, settings) = settings("");
    let mut peers = PeerSource::from_store(&settings, &sandbox.host, &store, false)
        .with_own_node("lb", vec!["10.9.9.9".parse().unwrap()]);
    let nodes = peers.load().nodes(&Query::default());
    let nodes: Vec<String> = nodes
        .unwrap()
        .iter()
        .map(|peer| format!("{} {}", peer.name, peer.address))
        .collect();
    assert_eq!(nodes, ["floating 10.0.2.1", "lb 10.9.9.9"]);
    let problems = peers.record_problems();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems[0].contains(
            "the record of evil names 10.9.9.9, which is an address of this host: it is not listed"
        ),
        "{problems:?}"
    );
}
