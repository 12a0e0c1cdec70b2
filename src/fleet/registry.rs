//! Queries and changes of the records in the store, besides a whole snapshot.

use std::time::Duration;

use jiff::Timestamp;

use super::record::{MAX_RECORD, NodeRecord};
use super::snapshot::{UnreadCounter, UnreadRecords, store_time};
use super::{record_key, records_prefix};
use crate::desired::NodeGeneration;
use crate::ports::store::{GetOutcome, ObjectMeta, Store, StoreError};
use crate::settings::is_name;

/// The number of records of an environment: one request for each thousand.
pub(crate) fn count_records(store: &dyn Store, environment: &str) -> Result<usize, StoreError> {
    Ok(store.list(&records_prefix(environment))?.len())
}

/// Time since the last heartbeat of a node; `None` if it has no record.
pub(crate) fn node_silence(
    store: &dyn Store,
    environment: &str,
    node: &str,
) -> Result<Option<Duration>, StoreError> {
    let own = record_key(environment, node);
    let listed = store.list(&own)?;
    let record = listed.iter().find(|object| object.key == own);
    let now = store_time(store, record.into_iter());
    Ok(record.map(|record| age(record, now)))
}

/// The record of a node; `None` if it has none, or one that cannot be used.
pub(crate) fn node_record(
    store: &dyn Store,
    environment: &str,
    node: &str,
) -> Result<Option<NodeRecord>, StoreError> {
    Ok(match store.get(&record_key(environment, node), None)? {
        GetOutcome::Object(object) => NodeRecord::parse(node, environment, &object.body).ok(),
        GetOutcome::Missing | GetOutcome::Unchanged => None,
    })
}

/// The nodes that have a record and wrote it no longer ago than this, the last one first.
pub(crate) fn recent_nodes(
    store: &dyn Store,
    environment: &str,
    limit: Duration,
) -> Result<Vec<String>, StoreError> {
    let prefix = records_prefix(environment);
    let mut listed = store.list(&prefix)?;
    let now = store_time(store, listed.iter());
    listed.retain(|record| age(record, now) <= limit);
    listed.sort_by_key(|record| std::cmp::Reverse(record.modified));
    let names = listed.iter().filter_map(|record| {
        let name = record.key.strip_prefix(&prefix)?.strip_suffix(".json")?;
        is_name(name).then(|| name.to_owned())
    });
    Ok(names.collect())
}

/// The names of the nodes that have a record, sorted.
pub(crate) fn node_names(store: &dyn Store, environment: &str) -> Result<Vec<String>, StoreError> {
    let prefix = records_prefix(environment);
    let listed = store.list(&prefix)?;
    let names = listed.iter().filter_map(|record| {
        let name = record.key.strip_prefix(&prefix)?.strip_suffix(".json")?;
        is_name(name).then(|| name.to_owned())
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    Ok(names)
}

/// Removes the record of a node and those of machines that found its name taken. Returns the number of
/// removed records.
pub(crate) fn forget_node(
    store: &dyn Store,
    environment: &str,
    node: &str,
) -> Result<usize, StoreError> {
    let beside = format!("{}{node}@", records_prefix(environment));
    let own = record_key(environment, node);
    let listed = store.list(&format!("{}{node}", records_prefix(environment)))?;
    let keys = listed.into_iter().map(|object| object.key);
    let keys: Vec<String> = keys
        .filter(|key| *key == own || key.starts_with(&beside))
        .collect();
    for key in &keys {
        store.delete(key)?;
    }
    Ok(keys.len())
}

/// The manifest generations that the live hosts of an environment have acted on, and the records that
/// could not be read. Each node counts once, by the record of its own name. The record of a machine beside a
/// taken name (`NODE@…`) does not count; otherwise one writer of a record would have many votes.
pub(crate) fn node_generations(
    store: &dyn Store,
    environment: &str,
    gone_after: Duration,
) -> Result<(Vec<NodeGeneration>, Option<UnreadRecords>), StoreError> {
    let folder = format!("nodes/{environment}/");
    let listed = store.list(&folder)?;
    let now = store_time(store, listed.iter());
    let names: Vec<(String, String)> = listed
        .into_iter()
        .filter(|object| object.size <= MAX_RECORD as u64 && age(object, now) <= gone_after)
        .filter_map(|object| {
            let node = object.key.strip_prefix(&folder)?.strip_suffix(".json")?;
            let node = node.to_owned();
            is_name(&node).then_some((object.key, node))
        })
        .collect();
    let keys: Vec<String> = names.iter().map(|(key, _)| key.clone()).collect();
    let mut generations = Vec::new();
    let mut unread = UnreadCounter::default();
    store.get_many(&keys, MAX_RECORD, &mut |number, answer| {
        let (_, node) = &names[number];
        match answer {
            Ok(GetOutcome::Object(object)) => {
                let record = NodeRecord::parse(node, environment, &object.body);
                generations.extend(record.ok().and_then(|record| {
                    Some(NodeGeneration {
                        node: format!("{environment}/{node}"),
                        generation: record.generation?,
                    })
                }));
            }
            Ok(_) | Err(StoreError::TooLarge { .. }) => {}
            Err(error) => unread.add(error),
        }
    });
    generations.sort_by(|a, b| a.node.cmp(&b.node));
    Ok((generations, unread.0))
}

fn age(object: &ObjectMeta, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(object.modified)).unwrap_or_default()
}
