//! Against a store in memory and a host in a folder.

mod balancer;
mod bounds;
mod lists;
mod looks;
mod many;
mod own;
mod records;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::*;
use crate::desired::{Manifest, Sha};
use crate::exit::Exit;
use crate::ports::store::{MemoryStore, Store, When};
use crate::ports::testing::Sandbox;

pub(super) const ENV: &str = "production";
pub(super) const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn sha(digit: char) -> Sha {
    Sha::parse(&digit.to_string().repeat(40)).unwrap()
}

pub(super) fn then() -> Timestamp {
    "2026-11-21T03:00:00Z".parse().unwrap()
}

/// A node that serves the app `shop`.
pub(super) fn record(node: &str, last: u8) -> Record {
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
        "apps": {"shop": {"wanted": sha('a'), "actual": sha('a'), "state": "serving", "since": then()}},
        "last_pass": {"at": then(), "outcome": "converged"},
    }))
    .unwrap()
}

pub(super) fn put(store: &MemoryStore, record: &Record) {
    let key = key(ENV, &record.node);
    store.put(&key, &record.body(), When::Always).unwrap();
}

pub(super) fn looked(store: &dyn Store, cache: &mut Cache) -> Look {
    look(store, ENV, HOUR, cache).unwrap()
}

pub(super) fn names(look: &Look) -> Vec<&str> {
    look.rows.iter().map(|row| row.node.as_str()).collect()
}
