//! The list of a load balancer over many passes: which nodes leave it and which stay.

use super::peer_list::{settings, shop_query};
use super::*;
use crate::ports::store::{Etag, GetOutcome, StoreError, double};
use crate::settings::Settings;

/// A load balancer that queries the store as a pass does.
struct LoadBalancer {
    sandbox: Sandbox,
    settings: Settings,
    _folder: tempfile::TempDir,
}

impl LoadBalancer {
    fn new(fleet: &str) -> LoadBalancer {
        let (_folder, settings) = settings(fleet);
        LoadBalancer {
            sandbox: Sandbox::empty(),
            settings,
            _folder,
        }
    }

    fn pass(&self, store: &dyn Store) -> Result<Vec<String>, String> {
        let mut peers = PeerSource::from_store(&self.settings, &self.sandbox.host, store, false);
        let nodes = peers.load().nodes(&shop_query());
        peers.save(nodes.is_ok()).unwrap();
        Ok(nodes?.into_iter().map(|peer| peer.name.clone()).collect())
    }
}

#[test]
fn store_outage_removes_no_listed_node() {
    let lb = LoadBalancer::new("");
    let store = MemoryStore::new();
    let at =
        |minutes: i64| store.set_server_time(fixed_time() + SignedDuration::from_mins(minutes));
    let beat = |hosts: std::ops::RangeInclusive<u8>| {
        for n in hosts {
            put(&store, &record(&format!("web{n}"), n));
        }
    };
    at(0);
    beat(1..=4);
    assert_eq!(lb.pass(&store).unwrap().len(), 4);
    // Two hours without heartbeats, and then three of four nodes send one.
    store.set_unreachable(true);
    for minutes in [1, 30, 90] {
        at(minutes);
        assert_eq!(lb.pass(&store).unwrap().len(), 4);
    }
    store.set_unreachable(false);
    at(120);
    beat(1..=3);
    assert_eq!(lb.pass(&store).unwrap(), ["web1", "web2", "web3", "web4"]);
    // A node that was not listed before is gone by its age alone.
    let stranger = LoadBalancer::new("");
    assert_eq!(stranger.pass(&store).unwrap(), ["web1", "web2", "web3"]);
    // It stays silent while the balancer has answers.
    for minutes in 1..60 {
        at(120 + minutes);
        beat(1..=3);
        assert_eq!(lb.pass(&store).unwrap().len(), 4, "minute {minutes}");
    }
    // An occasional failed query is no outage.
    store.set_unreachable(true);
    at(180);
    assert_eq!(lb.pass(&store).unwrap().len(), 4);
    store.set_unreachable(false);
    at(181);
    beat(1..=3);
    assert_eq!(lb.pass(&store).unwrap(), ["web1", "web2", "web3"]);
}

#[test]
fn restarted_load_balancer_waits_gone_after_before_removing_nodes() {
    let lb = LoadBalancer::new("fleet: {heartbeat: 20s, gone_after: 1m}\n");
    let store = MemoryStore::new();
    let at = |seconds: i64| {
        store.set_server_time(fixed_time() + SignedDuration::from_secs(seconds));
        put(&store, &record("web1", 1));
    };
    at(0);
    put(&store, &record("web2", 2));
    for seconds in [0, 30, 60] {
        at(seconds);
        assert_eq!(lb.pass(&store).unwrap().len(), 2);
    }
    at(600);
    assert_eq!(lb.pass(&store).unwrap().len(), 2, "it was off");
    at(640);
    assert_eq!(lb.pass(&store).unwrap().len(), 2);
    at(660);
    assert_eq!(lb.pass(&store).unwrap(), ["web1"]);
}

/// A store that answers only list requests.
struct Throttled<'a>(&'a MemoryStore);

impl double::StoreDouble for Throttled<'_> {
    fn inner(&self) -> &dyn Store {
        self.0
    }

    fn get(&self, key: &str, _: Option<&Etag>) -> Result<GetOutcome, StoreError> {
        if key.contains("web1") {
            return self.0.get(key, None);
        }
        Err(StoreError::Unreachable {
            store: "s3://b".into(),
            why: "503 SlowDown".into(),
            hint: "as the test says",
        })
    }
}

#[test]
fn unreadable_records_do_not_count_as_missing_nodes() {
    let lb = LoadBalancer::new("");
    let store = MemoryStore::new();
    for n in 1..=3 {
        put(&store, &record(&format!("web{n}"), n));
    }
    let why = lb.pass(&Throttled(&store)).unwrap_err();
    assert!(
        why.contains("the records of 2 nodes could not be read") && why.contains("503 SlowDown"),
        "{why}"
    );
    let throttled = Throttled(&store);
    let mut failed = PeerSource::from_store(&lb.settings, &lb.sandbox.host, &throttled, false);
    failed.load().nodes(&shop_query()).unwrap_err();
    assert!(failed.into_query_error().is_some());
    assert_eq!(lb.pass(&store).unwrap().len(), 3);
    // A cached record is as good as a read.
    assert_eq!(lb.pass(&Throttled(&store)).unwrap().len(), 3);
    let mut known = PeerSource::from_store(&lb.settings, &lb.sandbox.host, &throttled, false);
    known.load().nodes(&shop_query()).unwrap();
    assert!(
        known.kept_reasons().is_empty(),
        "{:?}",
        known.kept_reasons()
    );
    put(&store, &record("web4", 4));
    let mut new = PeerSource::from_store(&lb.settings, &lb.sandbox.host, &throttled, false);
    new.load().nodes(&shop_query()).unwrap();
    assert!(
        new.kept_reasons()[0].contains("could not be read"),
        "{:?}",
        new.kept_reasons()
    );
}

#[test]
fn cache_of_many_large_records_can_be_loaded_again() {
    let store = MemoryStore::new();
    let mut cache = RecordCache::empty("s", ENV);
    for n in 1..=9_u8 {
        let mut large = record(&format!("web{n}"), n);
        large.last_pass.why = Some("x".repeat(30 * usize::from(n)));
        put(&store, &large);
    }
    snapshot_of(&store, &mut cache);
    let full_size = cache.to_json(usize::MAX).len();
    let max_bytes = full_size - 100;
    let body = cache.to_json(max_bytes);
    assert!(body.len() <= max_bytes, "{} > {max_bytes}", body.len());
    let read: RecordCache = serde_json::from_slice(&body).unwrap();
    assert_eq!(read.records.len(), 8, "the largest one is left out");
    assert!(!read.records.contains_key("web9"));
    let read: RecordCache = serde_json::from_slice(&cache.to_json(1)).unwrap();
    assert_eq!(read.records.len(), 0);
}

#[test]
fn silent_node_is_removed_by_the_clock_of_the_store() {
    let sandbox = Sandbox::empty();
    let (_folder, settings) = settings("fleet: {gone_after: 20m, heartbeat: 5m}\n");
    let store = MemoryStore::new();
    // Years away from the host's clock.
    let store_start: Timestamp = "2031-01-01T00:00:00Z".parse().unwrap();
    store.set_server_time(store_start);
    put(&store, &record("web1", 1));
    put(&store, &record("web2", 2));
    let listed = |minutes: i64| -> Vec<String> {
        store.set_server_time(store_start + SignedDuration::from_mins(minutes));
        put(&store, &record("web1", 1));
        let mut peers = PeerSource::from_store(&settings, &sandbox.host, &store, false);
        let nodes = peers.load().nodes(&shop_query()).unwrap();
        nodes.into_iter().map(|peer| peer.name.clone()).collect()
    };
    assert_eq!(listed(19), ["web1", "web2"]);
    assert_eq!(listed(21), ["web1"]);
}
