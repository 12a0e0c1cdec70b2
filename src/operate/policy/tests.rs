use std::rc::Rc;

use super::*;
use crate::exit::Exit;
use crate::fleet::rollout::{Register, WantedShas, register_key};
use crate::operate::publish::testing::Unsigned;
use crate::ports::store::{MemoryStore, WriteCondition};
use crate::settings::PolicyFiles;

const KEY: &str = "sha_number.yml";
const MANIFEST: &str = "production:\n  shop: 4f2c9d0e1b3a5c7d9e0f1a2b3c4d5e6f70819203\n";

struct Bench {
    store: MemoryStore,
    fleet: FleetSettings,
}

impl Bench {
    fn new() -> Bench {
        let store = MemoryStore::new();
        store.set_server_time(time("2026-11-21T03:00:00Z"));
        let bench = Bench {
            store,
            fleet: FleetSettings::default(),
        };
        bench.put(KEY, MANIFEST.as_bytes());
        bench
    }

    fn put(&self, key: &str, body: &[u8]) {
        self.store.put(key, body, WriteCondition::Always).unwrap();
    }

    fn with<T>(&self, act: impl FnOnce(&PolicyTarget<'_>) -> T) -> T {
        let publisher = Unsigned {
            store: &self.store,
            key: KEY,
        };
        act(&PolicyTarget {
            store: &self.store,
            environment: "production",
            manifest_key: KEY,
            fleet: &self.fleet,
            signers: None,
            publisher: &publisher,
            request: PublishRequest {
                by: Some("ana".into()),
                ..PublishRequest::new("production", time("2026-11-21T03:00:00Z"))
            },
        })
    }

    fn push(&self, text: &str) -> PushOutcome {
        self.with(|target| push(target, &bundle(text)).unwrap())
    }

    fn named(&self) -> EnvironmentPolicy {
        self.with(|target| target.read().unwrap())
    }

    /// A host of the fleet has opened the rollout of a bundle, and proven it or not.
    fn roll_out(&self, digest: &ContentDigest, proven: bool) {
        let sha = digest.rollout_sha();
        let mut register = Register::new("production", "_policy");
        let wanted = WantedShas {
            generation: 1,
            shas: vec![sha.clone()],
            hold: None,
        };
        let opener = crate::fleet::rollout::Opener {
            node: "web1",
            at: time("2026-11-21T03:00:00Z"),
        };
        register.open(&sha, &wanted, opener);
        if proven {
            let id = register.current(&sha).unwrap().id.clone();
            register.set_proven(&id);
        }
        let body = serde_json::to_vec(&register).unwrap();
        self.put(&register_key("production", "_policy"), &body);
    }

    fn objects(&self) -> usize {
        self.store.list("policy/").unwrap().len()
    }
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn bundle(text: &str) -> PackedBundle {
    let files = [("roles/app.yml".to_owned(), text.as_bytes().to_vec())];
    let files = Rc::new(PolicyFiles {
        name: "dir".into(),
        files: files.into_iter().collect(),
    });
    let packed = policy::pack(&files.files).unwrap();
    PackedBundle {
        digest: ContentDigest::of(&packed),
        files,
        packed,
        warnings: Vec::new(),
    }
}

#[test]
fn equal_files_are_pushed_once_and_a_lost_object_is_replaced() {
    let bench = Bench::new();
    let first = bench.push("a: 1\n");
    assert!(first.published.unwrap().written);
    let generation = |bench: &Bench| bench.with(|target| target.list().unwrap()).len();
    assert_eq!(generation(&bench), 1);
    assert!(bench.push("a: 1\n").published.is_none());
    let key = policy::object_key(&first.digest);
    bench.store.delete(&key).unwrap();
    bench.push("a: 1\n");
    assert_eq!(bench.objects(), 1, "the object is back");
    // Somebody else's object under this digest is found out before the manifest names it.
    let other = bundle("a: 2\n");
    bench.put(&policy::object_key(&other.digest), b"something else");
    let refused = bench.with(|target| push(target, &other).map(|_| ()).unwrap_err());
    assert!(
        refused.summary().contains("another content"),
        "{}",
        refused.summary()
    );
    assert_eq!(bench.named().policy, Some(first.digest));
}

#[test]
fn only_proven_bundles_are_gone_back_to() {
    let bench = Bench::new();
    let good = bench.push("a: 1\n").digest;
    bench.roll_out(&good, true);
    let bad = bench.push("a: 2\n");
    assert_eq!(bad.previous.as_ref(), Some(&good));
    bench.roll_out(&bad.digest, false);
    assert_eq!(bench.push("a: 3\n").previous.as_ref(), Some(&good));
    let (to, _) = bench.with(|target| roll_back(target, None).unwrap());
    assert_eq!(to.as_ref(), Some(&good));
    let named = bench.named();
    assert_eq!((named.policy.as_ref(), named.previous), (Some(&good), None));
    // Then only the roles of the package are left.
    let (to, _) = bench.with(|target| roll_back(target, None).unwrap());
    assert_eq!((to, bench.named().policy), (None, None));
    let error = bench.with(|target| roll_back(target, None).unwrap_err());
    assert_eq!(error.exit(), Exit::Usage);
}

#[test]
fn rollback_goes_nowhere_where_the_bundle_is_missing() {
    let bench = Bench::new();
    let first = bench.push("a: 1\n").digest;
    let second = bench.push("a: 2\n").digest;
    let beginning = first.hex()[..8].to_owned();
    bench.store.delete(&policy::object_key(&first)).unwrap();
    let error = bench.with(|target| roll_back(target, None).unwrap_err());
    assert!(
        error.summary().contains("there is no"),
        "{}",
        error.summary()
    );
    assert_eq!(bench.named().policy, Some(second));
    let listed = bench.with(|target| target.list().unwrap());
    let lost = listed.iter().find(|row| row.digest == first).unwrap();
    assert_eq!((lost.since, lost.role), (None, Some(BundleRole::Previous)));
    let found = bench.with(|target| target.find(Some(&beginning)).unwrap());
    assert_eq!(found, first);
    assert!(bench.with(|target| target.find(Some("ffff")).is_err()));
}

#[test]
fn bundles_that_nothing_names_are_removed_after_a_week() {
    let bench = Bench::new();
    let mut digests = Vec::new();
    for number in 0..3 {
        digests.push(bench.push(&format!("a: {number}\n")).digest);
    }
    let stray = bundle("stray: 1\n");
    bench.put(&policy::object_key(&stray.digest), &stray.packed);
    bench.store.set_server_time(time("2026-11-27T03:00:00Z"));
    bench.push("a: 3\n");
    assert_eq!(bench.objects(), 5, "younger than a week");
    bench.store.set_server_time(time("2026-11-29T03:00:00Z"));
    bench.push("a: 4\n");
    let has = |digest: &ContentDigest| {
        let key = policy::object_key(digest);
        bench.store.get(&key, None).unwrap() != GetOutcome::Missing
    };
    assert!(!has(&stray.digest));
    assert!(digests.iter().all(has), "the history names them");
    for number in 5..16 {
        bench.push(&format!("a: {number}\n"));
    }
    assert!(!has(&digests[0]), "ten generations later");
    assert!(has(&bench.named().policy.unwrap()));
}
