//! Refusal of more records than a fleet has, and acceptance of as many as a large one has.

use serde_json::json;

use super::super::last_good::LastGoodLists;
use super::peer_list::{settings, shop_query};
use super::*;
use crate::fleet::record::MAX_RECORD;
use crate::ports::root::Attrs;
use crate::ports::store::StoreError;
use crate::testing::peak_memory;

/// Like the record of a host with two apps.
pub(super) fn typical_record(node: &str, number: usize) -> NodeRecord {
    let mut record = record(node, 1);
    record.machine_id = Some(format!("{number:032x}"));
    let (a, b) = (number / 250 % 250, number % 250);
    record.addresses = vec![
        format!("10.{a}.{b}.1").parse().unwrap(),
        format!("2001:db8::{number:x}").parse().unwrap(),
    ];
    record
        .apps
        .insert("blog".into(), record.apps["shop"].clone());
    record.generation = Some(42);
    record
}

pub(super) fn pass(store: &MemoryStore, sandbox: &Sandbox) -> Result<usize, String> {
    let (_folder, settings) = settings("");
    let mut peers = PeerSource::from_store(&settings, &sandbox.host, store, false);
    let nodes = peers.load().nodes(&shop_query());
    peers.save(nodes.is_ok()).unwrap();
    Ok(nodes?.len())
}

#[test]
fn twenty_thousand_records_load_within_the_memory_limit() {
    let store = MemoryStore::new();
    let number = 20_000;
    for n in 0..number {
        put(&store, &typical_record(&format!("web{n}"), n));
    }
    let sandbox = Sandbox::empty();
    for _ in 0..2 {
        let (listed, peak) = peak_memory(|| pass(&store, &sandbox).unwrap());
        assert_eq!(listed, number);
        assert!(peak < 200 << 20, "{} MiB", peak >> 20);
    }
}

#[test]
fn too_many_records_are_refused_and_the_last_list_kept() {
    let store = MemoryStore::new();
    for n in 1..=3 {
        put(&store, &typical_record(&format!("web{n}"), n));
    }
    let sandbox = Sandbox::empty();
    assert_eq!(pass(&store, &sandbox), Ok(3));
    for n in 0..30_000 {
        let at = record_key(ENV, &format!("evil{n}"));
        store.put(&at, b"{}", WriteCondition::Always).unwrap();
    }
    let mut moved = typical_record("web1", 1);
    moved.addresses = vec!["10.9.9.9".parse().unwrap()];
    put(&store, &moved);
    let (listed, peak) = peak_memory(|| pass(&store, &sandbox));
    assert_eq!(listed, Ok(3), "the last good list stays");
    assert!(peak < 30 << 20, "{} MiB", peak >> 20);
    let why = pass(&store, &Sandbox::empty()).unwrap_err();
    assert!(
        why.contains("nodes/production/ holds more than 30000 records"),
        "{why}"
    );
}

#[test]
fn records_over_the_memory_limit_are_refused() {
    let mut heavy = typical_record("web0", 0);
    // Small in the store and large in memory.
    let name = |n: usize| {
        format!(
            "{}{}",
            (b'a' + (n / 26) as u8) as char,
            (b'a' + (n % 26) as u8) as char
        )
    };
    heavy.roles = (0..200).map(|n| name(n % 26)).collect();
    heavy.ports = (0..200).map(|n| (name(n), 1)).collect();
    heavy.tags = (0..200).map(|n| (name(n), String::new())).collect();
    let mut value = serde_json::to_value(&heavy).unwrap();
    let store = MemoryStore::new();
    for n in 0..5500 {
        let node = format!("web{n}");
        value["node"] = json!(node);
        let body = serde_json::to_vec(&value).unwrap();
        store
            .put(&record_key(ENV, &node), &body, WriteCondition::Always)
            .unwrap();
    }
    let mut cache = RecordCache::empty("s", ENV);
    let (snapshot, peak) = peak_memory(|| take_snapshot(&store, ENV, HOUR, &mut cache));
    match snapshot {
        Err(StoreError::ListTooLarge { what, .. }) => {
            assert!(what.contains("192 MiB of memory"), "{what}")
        }
        other => panic!("{other:?}"),
    }
    assert!(peak < 250 << 20, "{} MiB", peak >> 20);
    // Large records are refused before they are read.
    let big = vec![b'x'; MAX_RECORD];
    for n in 0..4200 {
        store
            .put(
                &record_key(ENV, &format!("web{n}")),
                &big,
                WriteCondition::Always,
            )
            .unwrap();
    }
    match super::take_snapshot(&store, ENV, HOUR, &mut cache) {
        Err(StoreError::ListTooLarge { what, .. }) => {
            assert!(what.contains("64 MiB of records"), "{what}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn record_cached_by_an_earlier_version_is_validated_again() {
    let sandbox = Sandbox::empty();
    let store = MemoryStore::new();
    put(&store, &typical_record("web1", 1));
    put(&store, &typical_record("web2", 2));
    assert_eq!(pass(&store, &sandbox), Ok(2));
    let root = &sandbox.host.root;
    for file in ["fleet.json", "fleet-records.json"] {
        let path = sandbox.host.state_path(file);
        let saved = root.read(&path, 1 << 20).unwrap().unwrap();
        let saved = String::from_utf8(saved).unwrap();
        let saved = saved.replace("10.0.1.1", "100.100.100.200");
        root.write_atomic(&path, saved.as_bytes(), &Attrs::mode(0o644))
            .unwrap();
    }
    let (_folder, settings) = settings("");
    let cache = RecordCache::load(&sandbox.host.root, &settings.store.url, ENV);
    assert!(!cache.records.contains_key("web1") && cache.records.contains_key("web2"));
    let lists = LastGoodLists::load(&sandbox.host, &settings.store.url, ENV).unwrap();
    assert!(lists.lists.values().all(|list| list.nodes.len() == 1));
}

#[test]
fn applied_generations_are_read_from_the_hosts_of_one_environment() {
    let store = MemoryStore::new();
    put(&store, &typical_record("web1", 1));
    let mut silent = typical_record("web2", 2);
    silent.generation = None;
    put(&store, &silent);
    let mut staging = typical_record("web3", 3);
    (staging.environment, staging.generation) = ("staging".into(), Some(u64::MAX));
    store
        .put(
            "nodes/staging/web3.json",
            &staging.to_json(),
            WriteCondition::Always,
        )
        .unwrap();
    for (key, body) in [
        ("nodes/production/x.json", &b"{}"[..]),
        ("nodes/README", b"hello"),
    ] {
        store.put(key, body, WriteCondition::Always).unwrap();
    }
    let generations = || -> Vec<(String, u64)> {
        let (generations, unread) = node_generations(&store, "production", HOUR).unwrap();
        assert!(unread.is_none());
        let generations = generations.into_iter();
        generations
            .map(|host| (host.node, host.generation))
            .collect()
    };
    let all = [
        ("production/web1".to_owned(), 42),
        ("production/web4".to_owned(), 41),
    ];
    let mut other = typical_record("web4", 4);
    other.generation = Some(41);
    put(&store, &other);
    assert_eq!(generations(), all);
    // A writer of one record, and of those beside it, has one vote.
    for n in 0..6 {
        let mut beside = typical_record(&format!("web1@{n}"), 9);
        beside.generation = Some(7);
        put(&store, &beside);
    }
    assert_eq!(generations(), all);
    // A node that is gone has no vote.
    store.set_server_time("2100-01-01T00:00:00Z".parse().unwrap());
    put(&store, &typical_record("web1", 1));
    assert_eq!(generations(), all[..1]);
    store.set_unreachable(true);
    assert!(node_generations(&store, "production", HOUR).is_err());
}
