//! Tests with a store in memory and a host in a folder.

mod bounds;
mod ec2;
mod load_balancer;
mod peer_list;
mod progress;
mod publisher;
mod records;
mod registry;
mod scale;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::*;
use crate::desired::{Manifest, Sha};
use crate::exit::Exit;
use crate::ports::store::{MemoryStore, Store, WriteCondition};
use crate::ports::testing::Sandbox;

pub(super) const ENV: &str = "production";
pub(super) const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn sha(digit: char) -> Sha {
    Sha::parse(&digit.to_string().repeat(40)).unwrap()
}

pub(super) fn fixed_time() -> Timestamp {
    "2026-11-21T03:00:00Z".parse().unwrap()
}

/// A node that serves the app `shop`.
pub(super) fn record(node: &str, last: u8) -> NodeRecord {
    serde_json::from_value(json!({
        "version": 1,
        "node": node,
        "environment": ENV,
        "machine_id": format!("{last:032x}"),
        "agent": "0.1.0",
        "roles": ["app"],
        "tags": {"zone": if last.is_multiple_of(2) { "a" } else { "b" }},
        "addresses": [format!("10.0.0.{last}")],
        "ports": {"http": 80},
        "apps": {"shop": {"wanted": sha('a'), "actual": sha('a'), "state": "serving", "since": fixed_time()}},
        "last_pass": {"at": fixed_time(), "outcome": "converged"},
    }))
    .unwrap()
}

pub(super) fn put(store: &MemoryStore, record: &NodeRecord) {
    let key = record_key(ENV, &record.node);
    store
        .put(&key, &record.to_json(), WriteCondition::Always)
        .unwrap();
}

pub(super) fn snapshot_of(store: &dyn Store, cache: &mut RecordCache) -> Snapshot {
    take_snapshot(store, ENV, HOUR, cache).unwrap()
}

pub(super) fn names(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.rows.iter().map(|row| row.node.as_str()).collect()
}
