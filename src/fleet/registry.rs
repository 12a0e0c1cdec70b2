//! Reads all records of an environment: one list request, and one read per changed record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::cache::{CachedRecord, RecordCache};
use super::record::{MAX_RECORD, NodeRecord, record_too_large};
use super::{record_key, records_prefix, sanitize_line};
use crate::desired::NodeGeneration;
use crate::ports::store::{Etag, GetOutcome, ObjectMeta, Store, StoreError};
use crate::settings::is_name;

/// A node with a record in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeRow {
    pub node: String,
    pub record: Arc<NodeRecord>,
    /// Time of the last heartbeat, by the store's clock.
    pub last_seen: Timestamp,
}

/// The records in the store at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// By name.
    pub rows: Vec<NodeRow>,
    /// The store's time of the snapshot.
    pub now: Timestamp,
    /// Problems of records, one line each.
    pub problems: Vec<String>,
    /// Number of records read.
    pub reads: usize,
    /// Number of objects with the name of a record that are not valid records.
    pub invalid: usize,
    /// Records that could not be read, of nodes that the cache does not know: `rows` is incomplete.
    pub unread: Option<UnreadRecords>,
}

/// Records that could not be read.
#[derive(Debug)]
pub(crate) struct UnreadRecords {
    pub count: usize,
    /// The first error.
    pub first: StoreError,
}

/// Counts the records that could not be read.
#[derive(Default)]
struct UnreadCounter(Option<UnreadRecords>);

impl UnreadCounter {
    fn add(&mut self, error: StoreError) {
        match &mut self.0 {
            Some(unread) => unread.count += 1,
            none => {
                *none = Some(UnreadRecords {
                    count: 1,
                    first: error,
                });
            }
        }
    }
}

impl std::fmt::Display for UnreadRecords {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let UnreadRecords { count, first } = self;
        match count {
            1 => write!(out, "the record of a node could not be read ({first})"),
            _ => write!(
                out,
                "the records of {count} nodes could not be read ({first})"
            ),
        }
    }
}

impl NodeRow {
    /// Time since the last heartbeat.
    pub(crate) fn silent_for(&self, now: Timestamp) -> Duration {
        Duration::try_from(now.duration_since(self.last_seen)).unwrap_or_default()
    }
}

/// Maximum number of nodes in an environment; a longer list is refused whole.
pub(super) const MAX_NODES: usize = 30_000;

/// Maximum size of all records of an environment in the store, in bytes.
const MAX_STORED_BYTES: u64 = 64 << 20;

/// Maximum memory of the records and of all lists made of them, in bytes (see [`NodeRecord::memory_size`]).
pub(super) const MAX_MEMORY: usize = 192 << 20;

fn too_much_error(store: &dyn Store, environment: &str, what: String) -> StoreError {
    StoreError::ListTooLarge {
        store: store.address().to_owned(),
        prefix: records_prefix(environment),
        what,
    }
}

/// The records take more than [`MAX_MEMORY`].
pub(super) fn too_much_memory(store: &dyn Store, environment: &str) -> StoreError {
    let most = MAX_MEMORY >> 20;
    let what = format!("records that take more than {most} MiB of memory");
    too_much_error(store, environment, what)
}

/// Takes a snapshot. Reads only what `cache` does not know, and adds it to `cache`.
pub(crate) fn take_snapshot(
    store: &dyn Store,
    environment: &str,
    gone_after: Duration,
    cache: &mut RecordCache,
) -> Result<Snapshot, StoreError> {
    let listed = store.list(&records_prefix(environment))?;
    let too_much = |what: String| too_much_error(store, environment, what);
    if listed.len() > MAX_NODES {
        return Err(too_much(format!("more than {MAX_NODES} records")));
    }
    let small = listed.iter().map(|row| row.size.min(MAX_RECORD as u64));
    if small.sum::<u64>() > MAX_STORED_BYTES {
        return Err(too_much(format!(
            "more than {} MiB of records",
            MAX_STORED_BYTES >> 20
        )));
    }
    // Without the store's time the newest record is the best clock: it can only be slow, which makes no live
    // host look stopped.
    let newest = listed.iter().map(|row| row.modified).max();
    let now = store
        .server_time()
        .or(newest)
        .unwrap_or(Timestamp::UNIX_EPOCH);
    let mut snapshot = Snapshot {
        rows: Vec::new(),
        now,
        problems: Vec::new(),
        reads: 0,
        invalid: 0,
        unread: None,
    };
    let mut here = BTreeMap::new();
    for row in listed {
        let name = row
            .key
            .strip_prefix(&records_prefix(environment))
            .and_then(|name| name.strip_suffix(".json"));
        match name {
            Some(name) if is_name(name) => {
                here.insert(name.to_owned(), row);
            }
            Some(name) if name.split_once('@').is_some_and(|(node, _)| is_name(node)) => {
                snapshot.report_name_conflict(name, &row, gone_after);
            }
            _ => {
                let line = format!("`{}` is not a node record", sanitize_line(&row.key));
                snapshot.problems.push(line);
            }
        }
    }
    cache.records.retain(|name, _| here.contains_key(name));
    if !snapshot.read_changed(store, environment, &here, cache) {
        return Err(too_much_memory(store, environment));
    }
    for (node, row) in here {
        let Some(cached) = cache.records.get(&node) else {
            continue;
        };
        if let Some(bad) = &cached.bad {
            let stays = match cached.record {
                Some(_) => "; keeping its last good one",
                None => "",
            };
            let key = record_key(environment, &node);
            snapshot.invalid += 1;
            snapshot.problems.push(format!("{key}: {bad}{stays}"));
        }
        snapshot
            .rows
            .extend(cached.record.clone().map(|record| NodeRow {
                node,
                record,
                last_seen: row.modified,
            }));
    }
    snapshot.report_duplicate_machine_ids(gone_after);
    Ok(snapshot)
}

/// Time since the last heartbeat of a node; `None` if it has no record.
pub(crate) fn node_silence(
    store: &dyn Store,
    environment: &str,
    node: &str,
) -> Result<Option<Duration>, StoreError> {
    let own = record_key(environment, node);
    let listed = store.list(&own)?;
    let modified = listed.into_iter().find(|row| row.key == own);
    let modified = modified.map(|row| row.modified);
    let now = store
        .server_time()
        .or(modified)
        .unwrap_or(Timestamp::UNIX_EPOCH);
    Ok(modified.map(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default()))
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
    let keys = listed.into_iter().map(|row| row.key);
    let keys: Vec<String> = keys
        .filter(|key| *key == own || key.starts_with(&beside))
        .collect();
    for key in &keys {
        store.delete(key)?;
    }
    Ok(keys.len())
}

fn update_cache(cache: &mut RecordCache, name: &str, etag: Etag, read: Result<NodeRecord, String>) {
    let before = cache.records.remove(name).and_then(|cached| cached.record);
    let (record, bad) = match read {
        Ok(record) => (Some(Arc::new(record)), None),
        Err(bad) => (before, Some(bad)),
    };
    let cached = CachedRecord { etag, record, bad };
    cache.records.insert(name.to_owned(), cached);
}

impl Snapshot {
    /// Reads changed records. Returns `false` if they would take too much memory; some are then unread.
    fn read_changed(
        &mut self,
        store: &dyn Store,
        environment: &str,
        here: &BTreeMap<String, ObjectMeta>,
        cache: &mut RecordCache,
    ) -> bool {
        let is_new = |name: &str, row: &ObjectMeta| {
            let known = cache.records.get(name);
            known.is_none_or(|cached| cached.etag != row.etag)
        };
        let new: Vec<(&String, &ObjectMeta)> = here
            .iter()
            .filter(|(name, row)| is_new(name, row))
            .collect();
        let small = |row: &ObjectMeta| row.size <= MAX_RECORD as u64;
        let wanted: Vec<&(&String, &ObjectMeta)> =
            new.iter().filter(|(_, row)| small(row)).collect();
        let keys: Vec<String> = wanted.iter().map(|(_, row)| row.key.clone()).collect();
        let (mut known, mut unknown) = (UnreadCounter::default(), UnreadCounter::default());
        let mut weight = cache.memory_size();
        store.get_many(&keys, MAX_RECORD, &mut |number, answer| {
            let (name, _) = wanted[number];
            match answer {
                Ok(GetOutcome::Object(object)) if weight <= MAX_MEMORY => {
                    let read = NodeRecord::parse(name, environment, &object.body);
                    weight -= cache
                        .records
                        .get(*name)
                        .map_or(0, CachedRecord::memory_size);
                    update_cache(cache, name, object.etag, read);
                    weight += cache
                        .records
                        .get(*name)
                        .map_or(0, CachedRecord::memory_size);
                }
                Ok(GetOutcome::Object(_)) => {}
                // Removed since the list request, or answered 304 without a condition: the next snapshot
                // decides.
                Ok(GetOutcome::Missing | GetOutcome::Unchanged) => {}
                Err(error) => match cache.records.get(*name) {
                    Some(CachedRecord {
                        record: Some(_), ..
                    }) => known.add(error),
                    _ => unknown.add(error),
                },
            }
        });
        if let Some(known) = known.0 {
            self.problems
                .push(format!("{known}; keeping its last known state"));
        }
        self.unread = unknown.0;
        let unknown = self.unread.as_ref().map(UnreadRecords::to_string);
        self.problems.extend(unknown);
        for (name, row) in new.iter().filter(|(_, row)| !small(row)) {
            update_cache(
                cache,
                name,
                row.etag.clone(),
                Err(record_too_large(row.size)),
            );
        }
        self.reads = keys.len();
        weight <= MAX_MEMORY
    }

    /// Reports a machine that found its name taken (see [`super::RecordPublisher`]).
    fn report_name_conflict(&mut self, name: &str, row: &ObjectMeta, gone_after: Duration) {
        let silent = Duration::try_from(self.now.duration_since(row.modified)).unwrap_or_default();
        if let Some((node, machine)) = name.split_once('@')
            && silent <= gone_after
        {
            self.problems.push(format!(
                "two machines use the node name `{node}`; the second one, with the id {}…, is not listed: give it its own name (`node:` in its settings)",
                sanitize_line(machine)
            ));
        }
    }

    /// Reports machines that were cloned with their machine id and renamed since.
    fn report_duplicate_machine_ids(&mut self, gone_after: Duration) {
        let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for row in &self.rows {
            if let Some(id) = &row.record.machine_id
                && row.silent_for(self.now) <= gone_after
            {
                names.entry(id).or_default().push(&row.node);
            }
        }
        for nodes in names.values().filter(|nodes| nodes.len() > 1) {
            self.problems.push(format!(
                "{} have the same machine id: if one is a copy of the other, give it its own (`rm /etc/machine-id; systemd-machine-id-setup`); if one is a former name, wait until it is forgotten",
                format_names(nodes)
            ));
        }
    }
}

/// `a and b`, or `a, b, c, d and 19996 more`.
fn format_names(nodes: &[&str]) -> String {
    const SHOWN: usize = 4;
    match nodes.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        None => nodes.join(" and "),
        Some(more) => format!("{} and {more} more", nodes[..SHOWN].join(", ")),
    }
}

/// The manifest generations that the live hosts of all environments have acted on, and the records that
/// could not be read. Each node counts once, by the record of its own name. The record of a machine beside a
/// taken name (`NODE@…`) does not count; otherwise one writer of a record would have many votes.
pub(crate) fn node_generations(
    store: &dyn Store,
    gone_after: Duration,
) -> Result<(Vec<NodeGeneration>, Option<UnreadRecords>), StoreError> {
    let listed = store.list("nodes/")?;
    let newest = listed.iter().map(|row| row.modified).max();
    let now = store
        .server_time()
        .or(newest)
        .unwrap_or(Timestamp::UNIX_EPOCH);
    let lives = |row: &ObjectMeta| {
        let silent = Duration::try_from(now.duration_since(row.modified));
        silent.unwrap_or_default() <= gone_after
    };
    let names: Vec<(String, String, String)> = listed
        .into_iter()
        .filter(|row| row.size <= MAX_RECORD as u64 && lives(row))
        .filter_map(|row| {
            let name = row.key.strip_prefix("nodes/")?.strip_suffix(".json")?;
            let (environment, node) = name.split_once('/')?;
            let (environment, node) = (environment.to_owned(), node.to_owned());
            (is_name(&environment) && is_name(&node)).then_some((row.key, environment, node))
        })
        .collect();
    let keys: Vec<String> = names.iter().map(|(key, ..)| key.clone()).collect();
    let mut found = Vec::new();
    let mut unread = UnreadCounter::default();
    store.get_many(&keys, MAX_RECORD, &mut |number, answer| {
        let (_, environment, node) = &names[number];
        match answer {
            Ok(GetOutcome::Object(object)) => {
                let record = NodeRecord::parse(node, environment, &object.body);
                found.extend(record.ok().and_then(|record| {
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
    found.sort_by(|a, b| a.node.cmp(&b.node));
    Ok((found, unread.0))
}
