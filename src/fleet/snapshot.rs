//! The records of an environment at one moment: one list request, and one read per changed record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::cache::{CachedRecord, RecordCache};
use super::record::{MAX_RECORD, NodeRecord, record_too_large};
use super::{record_key, records_prefix, sanitize_line};
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
pub(super) struct UnreadCounter(pub Option<UnreadRecords>);

impl UnreadCounter {
    pub(super) fn add(&mut self, error: StoreError) {
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

/// Records that [`any_record_besides`] reads at a time: few at first, because one of them usually decides.
const FIRST_READS: usize = 4;
const MAX_READS: usize = 256;

/// Maximum size of all records of an environment in the store, in bytes.
const MAX_STORED_BYTES: u64 = 64 << 20;

/// Maximum memory of the records and of all lists made of them, in bytes (see [`NodeRecord::memory_size`]).
pub(super) const MAX_MEMORY: usize = 192 << 20;

fn too_much_error(store: &dyn Store, environment: &str, excess: String) -> StoreError {
    StoreError::ListTooLarge {
        store: store.address().to_owned(),
        prefix: records_prefix(environment),
        what: excess,
    }
}

/// The records take more than [`MAX_MEMORY`].
pub(super) fn too_much_memory(store: &dyn Store, environment: &str) -> StoreError {
    let max_mib = MAX_MEMORY >> 20;
    let excess = format!("records that take more than {max_mib} MiB of memory");
    too_much_error(store, environment, excess)
}

/// Takes a snapshot. Reads only what `cache` does not know, and adds it to `cache`.
pub(crate) fn take_snapshot(
    store: &dyn Store,
    environment: &str,
    gone_after: Duration,
    cache: &mut RecordCache,
) -> Result<Snapshot, StoreError> {
    let listed = store.list(&records_prefix(environment))?;
    check_limits(store, environment, &listed)?;
    let mut snapshot = Snapshot::at(store_time(store, listed.iter()));
    let objects = snapshot.objects_by_node(environment, listed, gone_after);
    cache.records.retain(|node, _| objects.contains_key(node));
    snapshot.read_changed(store, environment, &objects, cache)?;
    for (node, object) in objects {
        if let Some(cached) = cache.records.get(&node) {
            snapshot.add_row(environment, node, object.modified, cached);
        }
    }
    snapshot.report_duplicate_machine_ids(gone_after);
    Ok(snapshot)
}

/// Whether a record of a node that is not among these has a property, which also gets the store's time. Reads some at a
/// time, up to the first. `None`: none of these nodes has a record itself, so records say nothing here.
pub(crate) fn any_record_besides(
    store: &dyn Store,
    environment: &str,
    gone_after: Duration,
    nodes: &BTreeSet<String>,
    has_it: &dyn Fn(&NodeRow, Timestamp) -> bool,
) -> Result<Option<bool>, StoreError> {
    let listed = store.list(&records_prefix(environment))?;
    check_limits(store, environment, &listed)?;
    let mut snapshot = Snapshot::at(store_time(store, listed.iter()));
    let objects = snapshot.objects_by_node(environment, listed, gone_after);
    let (known, mut others): (Vec<_>, Vec<(String, ObjectMeta)>) = objects
        .into_iter()
        .partition(|(node, _)| nodes.contains(node));
    if known.is_empty() {
        return Ok(None);
    }
    let mut reads = FIRST_READS;
    while !others.is_empty() {
        let some = others.split_off(others.len().saturating_sub(reads));
        reads = (reads * 4).min(MAX_READS);
        let some: BTreeMap<String, ObjectMeta> = some.into_iter().collect();
        let mut cache = RecordCache::empty("", environment);
        snapshot.read_changed(store, environment, &some, &mut cache)?;
        if let Some(unread) = snapshot.unread {
            return Err(unread.first);
        }
        snapshot.rows.clear();
        for (node, object) in some {
            if let Some(cached) = cache.records.get(&node) {
                snapshot.add_row(environment, node, object.modified, cached);
            }
        }
        if snapshot.rows.iter().any(|row| has_it(row, snapshot.now)) {
            return Ok(Some(true));
        }
    }
    Ok(Some(false))
}

fn check_limits(
    store: &dyn Store,
    environment: &str,
    listed: &[ObjectMeta],
) -> Result<(), StoreError> {
    if listed.len() > MAX_NODES {
        let excess = format!("more than {MAX_NODES} records");
        return Err(too_much_error(store, environment, excess));
    }
    // A larger object is not read.
    let readable = listed
        .iter()
        .map(|object| object.size.min(MAX_RECORD as u64));
    if readable.sum::<u64>() > MAX_STORED_BYTES {
        let excess = format!("more than {} MiB of records", MAX_STORED_BYTES >> 20);
        return Err(too_much_error(store, environment, excess));
    }
    Ok(())
}

/// The store's time. Without it the newest record is the best clock: it can only be slow, which makes no
/// live host look stopped.
pub(super) fn store_time<'a>(
    store: &dyn Store,
    listed: impl Iterator<Item = &'a ObjectMeta>,
) -> Timestamp {
    store
        .server_time()
        .or_else(|| listed.map(|object| object.modified).max())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

fn update_cache(cache: &mut RecordCache, node: &str, etag: Etag, read: Result<NodeRecord, String>) {
    let before = cache.records.remove(node).and_then(|cached| cached.record);
    let (record, bad) = match read {
        Ok(record) => (Some(Arc::new(record)), None),
        Err(bad) => (before, Some(bad)),
    };
    let cached = CachedRecord { etag, record, bad };
    cache.records.insert(node.to_owned(), cached);
}

fn record_memory(cache: &RecordCache, node: &str) -> usize {
    let cached = cache.records.get(node);
    cached.map_or(0, CachedRecord::memory_size)
}

impl Snapshot {
    fn at(now: Timestamp) -> Snapshot {
        Snapshot {
            rows: Vec::new(),
            now,
            problems: Vec::new(),
            reads: 0,
            invalid: 0,
            unread: None,
        }
    }

    /// The objects with the name of a record, by node; reports the others.
    fn objects_by_node(
        &mut self,
        environment: &str,
        listed: Vec<ObjectMeta>,
        gone_after: Duration,
    ) -> BTreeMap<String, ObjectMeta> {
        let prefix = records_prefix(environment);
        let mut objects = BTreeMap::new();
        for object in listed {
            let name = object.key.strip_prefix(&prefix);
            match name.and_then(|name| name.strip_suffix(".json")) {
                Some(name) if is_name(name) => {
                    objects.insert(name.to_owned(), object);
                }
                Some(name) if name.split_once('@').is_some_and(|(node, _)| is_name(node)) => {
                    self.report_name_conflict(name, &object, gone_after);
                }
                _ => {
                    let line = format!("`{}` is not a node record", sanitize_line(&object.key));
                    self.problems.push(line);
                }
            }
        }
        objects
    }

    /// Reads the records whose objects changed into the cache.
    fn read_changed(
        &mut self,
        store: &dyn Store,
        environment: &str,
        objects: &BTreeMap<String, ObjectMeta>,
        cache: &mut RecordCache,
    ) -> Result<(), StoreError> {
        let changed = objects.iter().filter(|(node, object)| {
            let cached = cache.records.get(*node);
            cached.is_none_or(|cached| cached.etag != object.etag)
        });
        let (readable, too_large): (Vec<_>, Vec<_>) =
            changed.partition(|(_, object)| object.size <= MAX_RECORD as u64);
        self.read_records(store, environment, &readable, cache)?;
        for (node, object) in too_large {
            let problem = record_too_large(object.size);
            update_cache(cache, node, object.etag.clone(), Err(problem));
        }
        Ok(())
    }

    /// Reads these records into the cache. Fails if they would take too much memory; some are then unread.
    fn read_records(
        &mut self,
        store: &dyn Store,
        environment: &str,
        changed: &[(&String, &ObjectMeta)],
        cache: &mut RecordCache,
    ) -> Result<(), StoreError> {
        let keys: Vec<String> = changed
            .iter()
            .map(|(_, object)| object.key.clone())
            .collect();
        let (mut of_cached, mut of_uncached) = (UnreadCounter::default(), UnreadCounter::default());
        let mut memory = cache.memory_size();
        store.get_many(&keys, MAX_RECORD, &mut |number, answer| {
            let (node, _) = changed[number];
            match answer {
                Ok(GetOutcome::Object(object)) if memory <= MAX_MEMORY => {
                    let record = NodeRecord::parse(node, environment, &object.body);
                    memory -= record_memory(cache, node);
                    update_cache(cache, node, object.etag, record);
                    memory += record_memory(cache, node);
                }
                Ok(GetOutcome::Object(_)) => {}
                // Removed since the list request, or answered 304 without a condition: the next snapshot
                // decides.
                Ok(GetOutcome::Missing | GetOutcome::Unchanged) => {}
                Err(error) => match cache.records.get(node) {
                    Some(cached) if cached.record.is_some() => of_cached.add(error),
                    _ => of_uncached.add(error),
                },
            }
        });
        self.reads = keys.len();
        if let Some(unread) = of_cached.0 {
            let line = format!("{unread}; keeping its last known state");
            self.problems.push(line);
        }
        self.unread = of_uncached.0;
        let unread = self.unread.as_ref().map(UnreadRecords::to_string);
        self.problems.extend(unread);
        match memory <= MAX_MEMORY {
            true => Ok(()),
            false => Err(too_much_memory(store, environment)),
        }
    }

    /// Adds the last good record of a node, and reports an invalid one.
    fn add_row(
        &mut self,
        environment: &str,
        node: String,
        last_seen: Timestamp,
        cached: &CachedRecord,
    ) {
        if let Some(bad) = &cached.bad {
            let remedy = match cached.record {
                Some(_) => "; keeping its last good one",
                None => "",
            };
            let key = record_key(environment, &node);
            self.invalid += 1;
            self.problems.push(format!("{key}: {bad}{remedy}"));
        }
        let record = cached.record.clone();
        self.rows.extend(record.map(|record| NodeRow {
            node,
            record,
            last_seen,
        }));
    }

    /// Reports a machine that found its name taken (see [`super::RecordPublisher`]).
    fn report_name_conflict(&mut self, name: &str, object: &ObjectMeta, gone_after: Duration) {
        let silent =
            Duration::try_from(self.now.duration_since(object.modified)).unwrap_or_default();
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
