use std::cell::Cell;
use std::sync::Barrier;

use super::*;
use crate::desired::{Manifest, Sha};
use crate::ports::store::{
    DirStore, GetOutcome, MemoryStore, PutOutcome, StoreError, WriteCondition, double,
};
use crate::problem::Problem;

pub(super) const KEY: &str = "sha_number.yml";

pub(super) fn order(app: &str, letter: &str) -> PublishRequest {
    PublishRequest {
        shas: vec![(app.into(), Sha::parse(&letter.repeat(40)).unwrap())],
        create: true,
        ..PublishRequest::new("production", "2026-11-21T04:43:01Z".parse().unwrap())
    }
}

/// No canary asks for the hosts.
pub(super) struct NoHosts;

impl FleetReports for NoHosts {
    fn hosts(&mut self) -> Result<ReportedHosts, StoreError> {
        Ok(ReportedHosts::default())
    }

    fn has_rollouts(&mut self, _: &str) -> Result<bool, StoreError> {
        Ok(true)
    }

    fn was_served(&mut self, _: &str, _: &Sha) -> Result<ServedBefore, String> {
        Ok(ServedBefore::Yes)
    }
}

pub(super) fn stored_manifest(store: &dyn Store) -> (Manifest, Vec<u8>) {
    let GetOutcome::Object(object) = store.get(KEY, None).unwrap() else {
        panic!("there is no manifest");
    };
    let manifest = Manifest::parse(KEY, &object.body).unwrap();
    (manifest, object.body)
}

/// A store in which another writer publishes just before each write, `times` times.
struct RacingStore {
    store: MemoryStore,
    times: Cell<u32>,
}

impl double::StoreDouble for RacingStore {
    fn inner(&self) -> &dyn Store {
        &self.store
    }

    fn put(
        &self,
        key: &str,
        body: &[u8],
        when: WriteCondition<'_>,
    ) -> Result<PutOutcome, StoreError> {
        let is_manifest = key == KEY;
        if let Some(left) = self.times.get().checked_sub(1).filter(|_| is_manifest) {
            self.times.set(left);
            let other = order(&format!("other-{left}"), "0");
            publish(&self.store, key, &other, None, &mut NoHosts, &mut |_| true).unwrap();
        }
        self.store.put(key, body, when)
    }
}

#[test]
fn conflicting_publish_retries_and_loses_nothing() {
    for times in [1, 3, 9] {
        let store = RacingStore {
            store: MemoryStore::new(),
            times: Cell::new(times),
        };
        let mut pauses = Vec::new();
        let done = publish(
            &store,
            KEY,
            &order("shop", "a"),
            None,
            &mut NoHosts,
            &mut |n| {
                pauses.push(n);
                true
            },
        )
        .unwrap();
        assert_eq!(pauses, (1..=times).collect::<Vec<u32>>());
        assert_eq!(done.generation, Some(u64::from(times) + 1));
        let (manifest, _) = stored_manifest(&store);
        let apps = &manifest.environments["production"];
        assert_eq!(apps.app_names().count() as u32, times + 1, "{apps:?}");
    }
}

#[test]
fn publish_that_always_conflicts_gives_up_without_writing() {
    let store = RacingStore {
        store: MemoryStore::new(),
        times: Cell::new(u32::MAX),
    };
    let mut pauses = 0;
    let error = publish(
        &store,
        KEY,
        &order("shop", "a"),
        None,
        &mut NoHosts,
        &mut |attempts| {
            pauses += 1;
            attempts < 12
        },
    )
    .unwrap_err();
    assert!(
        matches!(error, PublishError::Busy { attempts: 12, .. }),
        "{error}"
    );
    assert_eq!(pauses, 12);
    let (manifest, _) = stored_manifest(&store);
    assert!(!manifest.environments["production"].has_app("shop"));
}

#[test]
fn the_same_sha_again_writes_nothing() {
    let store = MemoryStore::new();
    let first = publish(
        &store,
        KEY,
        &order("shop", "a"),
        None,
        &mut NoHosts,
        &mut |_| true,
    )
    .unwrap();
    let (_, before) = stored_manifest(&store);
    let again = publish(
        &store,
        KEY,
        &order("shop", "a"),
        None,
        &mut NoHosts,
        &mut |_| true,
    )
    .unwrap();
    assert_eq!((first.written, again.written), (true, false));
    assert_eq!(again.generation, Some(1));
    assert_eq!(stored_manifest(&store).1, before);
}

#[test]
fn broken_manifest_is_not_overwritten() {
    let store = MemoryStore::new();
    let broken = b"production: {shop: [\n";
    store.put(KEY, broken, WriteCondition::Always).unwrap();
    let error = publish(
        &store,
        KEY,
        &order("shop", "a"),
        None,
        &mut NoHosts,
        &mut |_| true,
    )
    .unwrap_err();
    assert!(
        error.to_string().starts_with("memory:/sha_number.yml:"),
        "{error}"
    );
    let GetOutcome::Object(object) = store.get(KEY, None).unwrap() else {
        panic!("it is gone");
    };
    assert_eq!(object.body, broken);
}

/// A store whose response to a write is lost.
struct UnansweringStore(MemoryStore);

impl double::StoreDouble for UnansweringStore {
    fn inner(&self) -> &dyn Store {
        &self.0
    }

    fn put(
        &self,
        key: &str,
        body: &[u8],
        when: WriteCondition<'_>,
    ) -> Result<PutOutcome, StoreError> {
        self.0.put(key, body, when)?;
        Err(StoreError::Unreachable {
            store: "memory:".into(),
            why: "no answer".into(),
            hint: "as the test says",
        })
    }
}

#[test]
fn unanswered_write_is_reported_unconfirmed_and_can_be_repeated() {
    let store = MemoryStore::new();
    let lost = UnansweringStore(store.clone());
    let error = publish(
        &lost,
        KEY,
        &order("shop", "a"),
        None,
        &mut NoHosts,
        &mut |_| true,
    )
    .unwrap_err();
    assert!(matches!(error, PublishError::Unconfirmed(_)), "{error}");
    let again = publish(
        &store,
        KEY,
        &order("shop", "a"),
        None,
        &mut NoHosts,
        &mut |_| true,
    )
    .unwrap();
    assert!(!again.written, "it had landed");
    assert_eq!(again.generation, Some(1));
    store.set_unreachable(true);
    let error = publish(
        &store,
        KEY,
        &order("shop", "b"),
        None,
        &mut NoHosts,
        &mut |_| true,
    )
    .unwrap_err();
    assert!(
        matches!(error, PublishError::Store(_)),
        "a read that failed is no doubt: {error}"
    );
}

#[test]
fn eight_concurrent_publishes_all_land_and_count_up() {
    const THREADS: usize = 8;
    let folder = tempfile::tempdir().unwrap();
    let start = Barrier::new(THREADS);
    // A thread can come second only as often as there are others, so ten attempts are enough.
    std::thread::scope(|scope| {
        for number in 0..THREADS {
            let (folder, start) = (folder.path(), &start);
            scope.spawn(move || {
                let store = DirStore::open(folder).unwrap();
                let order = order(&format!("app-{number}"), &number.to_string());
                start.wait();
                let done = publish(&store, KEY, &order, None, &mut NoHosts, &mut |attempts| {
                    crate::ports::backoff::wait_before_retry(attempts);
                    true
                });
                assert!(done.unwrap().written);
            });
        }
    });
    let (manifest, _) = stored_manifest(&DirStore::open(folder.path()).unwrap());
    assert_eq!(manifest.generation_of("production"), Some(THREADS as u64));
    let apps = &manifest.environments["production"];
    for number in 0..THREADS {
        let entry = apps.entry(&format!("app-{number}")).unwrap().unwrap();
        assert_eq!(entry.sha.as_str(), number.to_string().repeat(40));
    }
}

/// The copy of a generation in the history.
fn copy_of(store: &dyn Store, generation: u64) -> Option<String> {
    match store
        .get(&history_key("production", generation), None)
        .unwrap()
    {
        GetOutcome::Object(object) => Some(String::from_utf8(object.body).unwrap()),
        GetOutcome::Missing | GetOutcome::Unchanged => None,
    }
}

#[test]
fn history_has_a_copy_of_each_generation_of_an_environment() {
    let store = MemoryStore::new();
    let before = format!(
        "x: &x {{shop: {}}}\nstaging: *x\nproduction:\n  # live\n  web: {}\n# end\n",
        "1".repeat(40),
        "2".repeat(40)
    );
    store
        .put(KEY, before.as_bytes(), WriteCondition::Always)
        .unwrap();
    publish(
        &store,
        KEY,
        &order("shop", "a"),
        None,
        &mut NoHosts,
        &mut |_| true,
    )
    .unwrap();
    let (_, body) = stored_manifest(&store);
    let body = String::from_utf8(body).unwrap();
    let copy = copy_of(&store, 1).unwrap();
    assert!(body.contains(&copy), "{copy}");
    assert!(copy.starts_with("production:\n  _settings:\n") && copy.contains("  # live\n"));
    Manifest::parse("copy", copy.as_bytes()).unwrap();
}

#[test]
fn killed_publisher_leaves_its_copy_to_the_next_one() {
    let store = MemoryStore::new();
    for letter in ["a", "b"] {
        publish(
            &store,
            KEY,
            &order("shop", letter),
            None,
            &mut NoHosts,
            &mut |_| true,
        )
        .unwrap();
    }
    let copy = copy_of(&store, 2).unwrap();
    store.delete(&history_key("production", 2)).unwrap();
    publish(
        &store,
        KEY,
        &order("shop", "c"),
        None,
        &mut NoHosts,
        &mut |_| true,
    )
    .unwrap();
    assert_eq!(copy_of(&store, 2), Some(copy));
    assert!(copy_of(&store, 3).is_some());
}

/// A store that refuses the history.
struct NoHistory(MemoryStore);

impl double::StoreDouble for NoHistory {
    fn inner(&self) -> &dyn Store {
        &self.0
    }

    fn put(
        &self,
        key: &str,
        body: &[u8],
        when: WriteCondition<'_>,
    ) -> Result<PutOutcome, StoreError> {
        if key.starts_with("history/") {
            return Err(StoreError::Unreachable {
                store: "memory:".into(),
                why: "no answer".into(),
                hint: "as the test says",
            });
        }
        self.0.put(key, body, when)
    }
}

#[test]
fn history_that_cannot_be_written_is_one_warning() {
    let store = NoHistory(MemoryStore::new());
    for letter in ["a", "b"] {
        let done = publish(
            &store,
            KEY,
            &order("shop", letter),
            None,
            &mut NoHosts,
            &mut |_| true,
        )
        .unwrap();
        let warnings: Vec<String> = done.warnings.iter().map(Problem::to_string).collect();
        assert!(done.written && warnings.len() == 1, "{warnings:?}");
        assert!(warnings[0].contains("the history has no history/production/"));
    }
}
