//! The guarantees of a store, as one suite that every backend must pass.
//!
//! A backend passes a factory, because the races need a handle for each writer, as separate hosts would have.
//! All keys are below one that no other run uses, and are deleted at the end.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{
    Etag, GetOutcome, GetResult, MAX_OBJECT_SIZE, Object, ObjectMeta, PutOutcome, Store,
    StoreError, WriteCondition,
};

type OpenStore<'a> = &'a (dyn Fn() -> Box<dyn Store> + Sync);
type Check = fn(&dyn Store, &str);

const CHECKS: &[(&str, Check)] = &[
    ("what is written is read back", put_is_read_back),
    (
        "a known version is not read again",
        known_version_is_unchanged,
    ),
    (
        "a create leaves an existing object",
        create_keeps_an_existing_object,
    ),
    (
        "a swap needs the current version",
        swap_needs_the_current_version,
    ),
    ("odd keys are keys", odd_keys_are_accepted),
    ("what is no key is refused", invalid_keys_are_refused),
    ("a list is whole and in order", list_is_complete_and_sorted),
    ("a list tells heartbeats", list_shows_heartbeats),
    ("many are read as each alone", get_many_reads_each_key),
    ("a delete is final and repeatable", delete_is_idempotent),
    ("a body too large is refused", too_large_body_is_refused),
];

/// Number of racing writers.
const WRITERS: usize = 50;

/// Runs the check of every guarantee, then the races.
pub(super) fn run(open: OpenStore<'_>) {
    let nanos = jiff::Timestamp::now().as_nanosecond();
    let base = format!("suite-{}-{nanos}", std::process::id());
    let store = open();
    for (number, (promise, keep)) in CHECKS.iter().enumerate() {
        eprintln!("{}: {promise}", store.address());
        keep(store.as_ref(), &format!("{base}/{number}"));
    }
    eprintln!("{}: one of {WRITERS} racing creates wins", store.address());
    one_create_wins(open, &format!("{base}/create"));
    eprintln!("{}: racing swaps lose no update", store.address());
    no_update_is_lost(open, &format!("{base}/counter"));
    for row in store.list(&base).unwrap() {
        store.delete(&row.key).unwrap();
    }
    assert_eq!(store.list(&base).unwrap(), []);
}

fn read(store: &dyn Store, key: &str) -> Option<Object> {
    match store.get(key, None).unwrap() {
        GetOutcome::Object(object) => Some(object),
        GetOutcome::Missing => None,
        GetOutcome::Unchanged => panic!("{key}: unchanged since a version that nobody named"),
    }
}

fn body(store: &dyn Store, key: &str) -> Option<Vec<u8>> {
    read(store, key).map(|object| object.body)
}

#[track_caller]
fn write(store: &dyn Store, key: &str, body: &[u8], when: WriteCondition<'_>) -> Etag {
    match store.put(key, body, when).unwrap() {
        PutOutcome::Written(etag) => etag,
        PutOutcome::Conflict => panic!("{key}: conflict"),
    }
}

fn put_is_read_back(store: &dyn Store, base: &str) {
    let binary: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let bodies: [&[u8]; 4] = [b"text\n", b"", &binary, b"\r\n\r\n0\r\n"];
    for (number, written) in bodies.into_iter().enumerate() {
        let key = format!("{base}/{number}");
        assert_eq!(store.get(&key, None).unwrap(), GetOutcome::Missing);
        let etag = write(store, &key, written, WriteCondition::Always);
        assert!(!etag.0.is_empty() && !etag.0.contains('"'), "{etag:?}");
        let object = read(store, &key).unwrap();
        assert!(object.body == written, "{key}: another body");
        assert_eq!(object.etag, etag);
    }
    let key = format!("{base}/0");
    let before = read(store, &key).unwrap();
    let etag = write(store, &key, b"other", WriteCondition::Always);
    let after = read(store, &key).unwrap();
    assert_eq!((after.body.as_slice(), &after.etag), (&b"other"[..], &etag));
    assert_ne!(before.etag, after.etag);
    assert!(before.modified <= after.modified);
}

fn known_version_is_unchanged(store: &dyn Store, base: &str) {
    let key = format!("{base}/known");
    let first = write(store, &key, b"1", WriteCondition::Always);
    assert_eq!(
        store.get(&key, Some(&first)).unwrap(),
        GetOutcome::Unchanged
    );
    let second = write(store, &key, b"2", WriteCondition::Always);
    match store.get(&key, Some(&first)).unwrap() {
        GetOutcome::Object(object) => {
            assert_eq!((&object.body[..], object.etag), (&b"2"[..], second))
        }
        other => panic!("an old version is known, yet: {other:?}"),
    }
    store.delete(&key).unwrap();
    assert_eq!(store.get(&key, Some(&first)).unwrap(), GetOutcome::Missing);
}

fn create_keeps_an_existing_object(store: &dyn Store, base: &str) {
    let key = format!("{base}/claim");
    let etag = write(store, &key, b"mine", WriteCondition::Absent);
    for other in [&b"yours"[..], b"mine"] {
        assert_eq!(
            store.put(&key, other, WriteCondition::Absent).unwrap(),
            PutOutcome::Conflict
        );
        let kept = read(store, &key).unwrap();
        assert_eq!((&kept.body[..], &kept.etag), (&b"mine"[..], &etag));
    }
    store.delete(&key).unwrap();
    write(store, &key, b"yours", WriteCondition::Absent);
}

fn swap_needs_the_current_version(store: &dyn Store, base: &str) {
    let key = format!("{base}/swap");
    let first = write(store, &key, b"1", WriteCondition::Absent);
    let swap = |body: &[u8], etag: &Etag| {
        store
            .put(&key, body, WriteCondition::Matches(etag))
            .unwrap()
    };
    let PutOutcome::Written(second) = swap(b"2", &first) else {
        panic!("the current version did not match");
    };
    for stale in [&first, &Etag("no such version".to_owned())] {
        assert_eq!(swap(b"3", stale), PutOutcome::Conflict);
        assert_eq!(body(store, &key).unwrap(), b"2");
    }
    store.delete(&key).unwrap();
    assert_eq!(swap(b"3", &second), PutOutcome::Conflict);
    assert_eq!(body(store, &key), None);
}

fn odd_keys_are_accepted(store: &dyn Store, base: &str) {
    let odd = [
        "a b",
        "a+b",
        "a%20b",
        "%41",
        "A",
        "a",
        "tilde~",
        "~",
        "ünï/çödé",
        "日本語",
        "🦀",
        "a&b=c?d#e",
        "it's \"quoted\"",
        "<x>&amp;",
        "(1)*!@$,;:",
        "back\\slash",
        "trailing ",
        " leading",
        "[x]{y}|^`",
        "deep/er/and/deeper",
        "2026-11-21T04:43:01Z",
    ];
    for key in odd {
        write(
            store,
            &format!("{base}/{key}"),
            key.as_bytes(),
            WriteCondition::Absent,
        );
    }
    for key in odd {
        let read = body(store, &format!("{base}/{key}"));
        assert_eq!(read.as_deref(), Some(key.as_bytes()), "{key}");
    }
    let mut expected: Vec<String> = odd.iter().map(|key| format!("{base}/{key}")).collect();
    expected.sort_unstable();
    assert_eq!(keys(&store.list(&format!("{base}/")).unwrap()), expected);
    for key in odd {
        store.delete(&format!("{base}/{key}")).unwrap();
    }
    assert_eq!(store.list(&format!("{base}/")).unwrap(), []);
}

fn invalid_keys_are_refused(store: &dyn Store, base: &str) {
    for key in [
        "", "/", ".", "..", "x/", "x//y", "x/../y", "x/./y", "x\ny", "x\0y",
    ] {
        let key = if key.is_empty() {
            String::new()
        } else {
            format!("{base}/{key}")
        };
        let refused = |result: Result<(), StoreError>| {
            assert!(
                matches!(result, Err(StoreError::Settings(_))),
                "{key:?}: {result:?}"
            );
        };
        refused(store.get(&key, None).map(drop));
        refused(store.put(&key, b"", WriteCondition::Always).map(drop));
        refused(store.delete(&key));
    }
    assert!(matches!(store.list("a/../b"), Err(StoreError::Settings(_))));
}

fn list_is_complete_and_sorted(store: &dyn Store, base: &str) {
    for name in ["b/2", "b/10", "b-1", "ba/1", "c/d/e"] {
        write(
            store,
            &format!("{base}/{name}"),
            name.as_bytes(),
            WriteCondition::Always,
        );
    }
    let listed = |prefix: &str| {
        let rows = store.list(&format!("{base}/{prefix}")).unwrap();
        keys(&rows)
            .into_iter()
            .map(|key| key[base.len() + 1..].to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(listed(""), ["b-1", "b/10", "b/2", "ba/1", "c/d/e"]);
    assert_eq!(listed("b"), ["b-1", "b/10", "b/2", "ba/1"]);
    assert_eq!(listed("b/"), ["b/10", "b/2"]);
    assert_eq!(listed("b/1"), ["b/10"]);
    assert_eq!(listed("c/d/"), ["c/d/e"]);
    assert!(listed("nothing/").is_empty());
    for row in store.list(base).unwrap() {
        let object = read(store, &row.key).unwrap();
        assert_eq!(row.etag, object.etag);
        assert_eq!(row.size, object.body.len() as u64);
        assert_eq!(row.modified.as_second(), object.modified.as_second());
    }
}

/// A list shows peers' heartbeats without reading objects: the version and the time of each.
fn list_shows_heartbeats(store: &dyn Store, base: &str) {
    let key = format!("{base}/node.json");
    let row = || {
        let mut rows = store.list(&format!("{base}/")).unwrap();
        assert_eq!(rows.len(), 1);
        rows.remove(0)
    };
    let first = write(store, &key, b"{}", WriteCondition::Absent);
    let listed = row();
    assert_eq!(listed.etag, first);
    let now = store
        .server_time()
        .expect("a store that has answered tells its time");
    let age = now.duration_since(listed.modified).as_secs();
    assert!(
        (-1..=5).contains(&age),
        "{age} s old just after it was written"
    );
    // S3 reports times to the second.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let second = write(store, &key, b"{}", WriteCondition::Matches(&first));
    assert_eq!(first, second, "the same content, the same version");
    let beat = row();
    assert_eq!(beat.etag, listed.etag);
    assert!(beat.modified > listed.modified, "a heartbeat is listed");
}

fn get_many_reads_each_key(store: &dyn Store, base: &str) {
    let names: Vec<String> = (0..40).map(|n| format!("{base}/{n}")).collect();
    for (n, key) in names.iter().enumerate().filter(|(n, _)| n % 7 != 3) {
        write(
            store,
            key,
            format!("body {n}").as_bytes(),
            WriteCondition::Always,
        );
    }
    let mut keys = names.clone();
    keys.push(format!("{base}/no//key"));
    let answers = read_many(store, &keys, MAX_OBJECT_SIZE);
    for (n, (key, answer)) in names.iter().zip(&answers).enumerate() {
        assert_eq!(answer.as_ref().unwrap(), &store.get(key, None).unwrap());
        let there = matches!(answer, Ok(GetOutcome::Object(_)));
        assert_eq!(there, n % 7 != 3, "{key}");
    }
    assert!(matches!(answers[40], Err(StoreError::Settings(_))));
    assert!(read_many(store, &[], 1).is_empty());
    write(
        store,
        &names[0],
        b"as long as may be",
        WriteCondition::Always,
    );
    let short = read_many(store, &names[..2], 16);
    let large = matches!(&short[0], Err(StoreError::TooLarge { limit: 16, .. }));
    assert!(
        large && matches!(&short[1], Ok(GetOutcome::Object(_))),
        "{short:?}"
    );
}

/// The answers of `get_many` in the order of the keys; each came once.
fn read_many(store: &dyn Store, keys: &[String], limit: usize) -> Vec<GetResult> {
    let mut answers: Vec<Option<GetResult>> = keys.iter().map(|_| None).collect();
    store.get_many(keys, limit, &mut |number, answer| {
        assert!(
            answers[number].replace(answer).is_none(),
            "{number} came twice"
        );
    });
    let all: Option<Vec<GetResult>> = answers.into_iter().collect();
    all.expect("an answer to each")
}

fn delete_is_idempotent(store: &dyn Store, base: &str) {
    let key = format!("{base}/gone");
    store.delete(&key).unwrap();
    store.delete(&format!("{base}/no/such/folder")).unwrap();
    write(store, &key, b"1", WriteCondition::Always);
    store.delete(&key).unwrap();
    store.delete(&key).unwrap();
    assert_eq!(body(store, &key), None);
}

fn too_large_body_is_refused(store: &dyn Store, base: &str) {
    let key = format!("{base}/large");
    let largest = vec![b'x'; MAX_OBJECT_SIZE];
    write(store, &key, &largest, WriteCondition::Always);
    assert!(body(store, &key).unwrap() == largest);
    let larger = vec![b'y'; MAX_OBJECT_SIZE + 1];
    let refused = store.put(&key, &larger, WriteCondition::Always);
    assert!(
        matches!(refused, Err(StoreError::TooLarge { .. })),
        "{refused:?}"
    );
    assert!(body(store, &key).unwrap() == largest);
}

/// A few rounds: first from nothing, then from a version that all writers know.
fn one_create_wins(open: OpenStore<'_>, key: &str) {
    let mut current: Option<Etag> = None;
    for round in 0..3 {
        let wins = AtomicUsize::new(0);
        let start = Barrier::new(WRITERS);
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (wins, start, current) = (&wins, &start, current.as_ref());
                scope.spawn(move || {
                    // Before anything that may panic, or the others would wait forever.
                    start.wait();
                    let store = open();
                    let body = format!("round {round} writer {writer}");
                    let when = current.map_or(WriteCondition::Absent, WriteCondition::Matches);
                    if let PutOutcome::Written(_) = store.put(key, body.as_bytes(), when).unwrap() {
                        wins.fetch_add(1, Ordering::Relaxed);
                        assert_eq!(read(store.as_ref(), key).unwrap().body, body.as_bytes());
                    }
                });
            }
        });
        assert_eq!(wins.into_inner(), 1, "round {round}");
        current = read(open().as_ref(), key).map(|object| object.etag);
    }
}

fn no_update_is_lost(open: OpenStore<'_>, key: &str) {
    write(open().as_ref(), key, b"0", WriteCondition::Absent);
    let start = Barrier::new(WRITERS);
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                start.wait();
                let store = open();
                loop {
                    let object = read(store.as_ref(), key).unwrap();
                    let count: usize = String::from_utf8(object.body).unwrap().parse().unwrap();
                    let next = (count + 1).to_string();
                    let when = WriteCondition::Matches(&object.etag);
                    if let PutOutcome::Written(_) = store.put(key, next.as_bytes(), when).unwrap() {
                        break;
                    }
                }
            });
        }
    });
    let total = body(open().as_ref(), key).unwrap();
    assert_eq!(String::from_utf8(total).unwrap(), WRITERS.to_string());
}

fn keys(rows: &[ObjectMeta]) -> Vec<String> {
    rows.iter().map(|row| row.key.clone()).collect()
}
