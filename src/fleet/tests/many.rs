//! More records than a fleet has, and as many as a large one has.

use serde_json::json;

use super::super::lists::Lists;
use super::lists::{all, settings};
use super::*;
use crate::ports::root::Attrs;
use crate::ports::store::StoreError;
use crate::testing::peak;

/// As a record of a host with two apps is.
pub(super) fn usual(node: &str, number: usize) -> Record {
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
    let peers = Peers::of_store(&settings, &sandbox.host, store, false);
    let nodes = peers.book().lock().unwrap().nodes(&all());
    peers.keep(nodes.is_ok()).unwrap();
    Ok(nodes?.len())
}

#[test]
fn twenty_thousand_records_load_within_the_memory_limit() {
    let store = MemoryStore::new();
    let number = 20_000;
    for n in 0..number {
        put(&store, &usual(&format!("web{n}"), n));
    }
    let sandbox = Sandbox::empty();
    for _ in 0..2 {
        let (listed, peak) = peak(|| pass(&store, &sandbox).unwrap());
        assert_eq!(listed, number);
        assert!(peak < 200 << 20, "{} MiB", peak >> 20);
    }
}

#[test]
fn too_many_records_are_refused_and_the_last_list_kept() {
    let store = MemoryStore::new();
    for n in 1..=3 {
        put(&store, &usual(&format!("web{n}"), n));
    }
    let sandbox = Sandbox::empty();
    assert_eq!(pass(&store, &sandbox), Ok(3));
    for n in 0..30_000 {
        let at = key(ENV, &format!("evil{n}"));
        store.put(&at, b"{}", When::Always).unwrap();
    }
    let mut moved = usual("web1", 1);
    moved.addresses = vec!["10.9.9.9".parse().unwrap()];
    put(&store, &moved);
    let (listed, peak) = peak(|| pass(&store, &sandbox));
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
    let mut heavy = usual("web0", 0);
    // What takes little room in the store and much in memory.
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
        store.put(&key(ENV, &node), &body, When::Always).unwrap();
    }
    let mut cache = Cache::empty("s", ENV);
    let (look, peak) = peak(|| look(&store, ENV, HOUR, &mut cache));
    match look {
        Err(StoreError::TooMuch { what, .. }) => {
            assert!(what.contains("192 MiB of memory"), "{what}")
        }
        other => panic!("{other:?}"),
    }
    assert!(peak < 250 << 20, "{} MiB", peak >> 20);
    // And large ones before they are read.
    let big = vec![b'x'; MAX_RECORD];
    for n in 0..4200 {
        store
            .put(&key(ENV, &format!("web{n}")), &big, When::Always)
            .unwrap();
    }
    match super::look(&store, ENV, HOUR, &mut cache) {
        Err(StoreError::TooMuch { what, .. }) => {
            assert!(what.contains("64 MiB of records"), "{what}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn record_cached_by_an_earlier_version_is_validated_again() {
    let sandbox = Sandbox::empty();
    let store = MemoryStore::new();
    put(&store, &usual("web1", 1));
    put(&store, &usual("web2", 2));
    assert_eq!(pass(&store, &sandbox), Ok(2));
    let root = &sandbox.host.root;
    for file in ["fleet.json", "fleet-records.json"] {
        let path = sandbox.host.state(file);
        let kept = root.read(&path, 1 << 20).unwrap().unwrap();
        let kept = String::from_utf8(kept).unwrap();
        let kept = kept.replace("10.0.1.1", "100.100.100.200");
        root.replace(&path, kept.as_bytes(), &Attrs::mode(0o644))
            .unwrap();
    }
    let (_folder, settings) = settings("");
    let cache = Cache::load(&sandbox.host, &settings.store.url, ENV);
    assert!(!cache.records.contains_key("web1") && cache.records.contains_key("web2"));
    let lists = Lists::load(&sandbox.host, &settings.store.url, ENV).unwrap();
    assert!(lists.answers.values().all(|answer| answer.nodes.len() == 1));
}

#[test]
fn applied_generations_are_read_from_all_environments() {
    let store = MemoryStore::new();
    put(&store, &usual("web1", 1));
    let mut silent = usual("web2", 2);
    silent.generation = None;
    put(&store, &silent);
    let mut staging = usual("web3", 3);
    (staging.environment, staging.generation) = ("staging".into(), Some(u64::MAX));
    store
        .put("nodes/staging/web3.json", &staging.body(), When::Always)
        .unwrap();
    for (key, body) in [
        ("nodes/production/x.json", &b"{}"[..]),
        ("nodes/README", b"hello"),
    ] {
        store.put(key, body, When::Always).unwrap();
    }
    let said = || -> Vec<(String, u64)> {
        let (found, unread) = acted_on(&store, HOUR).unwrap();
        assert!(unread.is_none());
        let found = found.into_iter();
        found.map(|host| (host.node, host.generation)).collect()
    };
    let both = [
        ("production/web1".to_owned(), 42),
        ("staging/web3".to_owned(), u64::MAX),
    ];
    assert_eq!(said(), both);
    // Whoever may write one record, and those beside it, has one voice.
    for n in 0..6 {
        let mut beside = usual(&format!("web1@{n}"), 9);
        beside.generation = Some(7);
        put(&store, &beside);
    }
    assert_eq!(said(), both);
    // What is gone says nothing.
    store.set_now("2100-01-01T00:00:00Z".parse().unwrap());
    put(&store, &usual("web1", 1));
    assert_eq!(said(), both[..1]);
    store.set_unreachable(true);
    assert!(acted_on(&store, HOUR).is_err());
}
