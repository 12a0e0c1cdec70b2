//! One look at all records of an environment: one list, and a read of each that is new.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::cache::{Cache, Kept};
use super::record::{MAX_RECORD, Record, too_large};
use super::{folder, key, shown};
use crate::desired::ActedOn;
use crate::ports::store::{Etag, Fetched, Listed, Store, StoreError};
use crate::settings::is_name;

/// A node with a record in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub node: String,
    pub record: Arc<Record>,
    /// When it was last heard of, by the store's clock.
    pub seen: Timestamp,
}

/// What there is in the store.
#[derive(Debug)]
pub struct Look {
    /// By name.
    pub rows: Vec<Row>,
    /// The store's time of the look.
    pub now: Timestamp,
    /// What is wrong with records, a line each.
    pub problems: Vec<String>,
    /// How many records were read.
    pub reads: usize,
    /// How many objects that have the name of a record hold none.
    pub bad: usize,
    /// Records that could not be read, of nodes of which nothing is known: there is more than `rows`.
    pub unread: Option<Unread>,
}

/// Records that could not be read.
#[derive(Debug)]
pub struct Unread {
    pub count: usize,
    /// Why the first one could not.
    pub first: StoreError,
}

/// Those of one kind that were met so far.
#[derive(Default)]
struct Unreads(Option<Unread>);

impl Unreads {
    fn add(&mut self, error: StoreError) {
        match &mut self.0 {
            Some(unread) => unread.count += 1,
            none => {
                *none = Some(Unread {
                    count: 1,
                    first: error,
                });
            }
        }
    }
}

impl std::fmt::Display for Unread {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Unread { count, first } = self;
        match count {
            1 => write!(out, "the record of a node could not be read ({first})"),
            _ => write!(
                out,
                "the records of {count} nodes could not be read ({first})"
            ),
        }
    }
}

impl Row {
    /// How long nothing was heard of it.
    pub fn silent(&self, now: Timestamp) -> Duration {
        Duration::try_from(now.duration_since(self.seen)).unwrap_or_default()
    }
}

/// No environment has more nodes; a longer list is refused whole.
pub(super) const MAX_NODES: usize = 30_000;

/// Nor have all its records together more bytes in the store,
const MAX_BYTES: u64 = 64 << 20;

/// or in memory, with all lists that are made of them (see [`Record::weight`]).
pub(super) const MAX_WEIGHT: usize = 192 << 20;

fn too_much(store: &dyn Store, environment: &str, what: String) -> StoreError {
    StoreError::TooMuch {
        store: store.address().to_owned(),
        prefix: folder(environment),
        what,
    }
}

/// What is there takes more than [`MAX_WEIGHT`].
pub(super) fn too_heavy(store: &dyn Store, environment: &str) -> StoreError {
    let most = MAX_WEIGHT >> 20;
    let what = format!("records that take more than {most} MiB of memory");
    too_much(store, environment, what)
}

/// Looks. What is known is in `cache`, which takes up what is new.
pub fn look(
    store: &dyn Store,
    environment: &str,
    gone_after: Duration,
    cache: &mut Cache,
) -> Result<Look, StoreError> {
    let listed = store.list(&folder(environment))?;
    let too_much = |what: String| too_much(store, environment, what);
    if listed.len() > MAX_NODES {
        return Err(too_much(format!("more than {MAX_NODES} records")));
    }
    let small = listed.iter().map(|row| row.size.min(MAX_RECORD as u64));
    if small.sum::<u64>() > MAX_BYTES {
        return Err(too_much(format!(
            "more than {} MiB of records",
            MAX_BYTES >> 20
        )));
    }
    // Without the store's time the newest record is the best clock there is: it can only be too slow,
    // which takes no host for stopped.
    let newest = listed.iter().map(|row| row.modified).max();
    let now = store.now().or(newest).unwrap_or(Timestamp::UNIX_EPOCH);
    let mut look = Look {
        rows: Vec::new(),
        now,
        problems: Vec::new(),
        reads: 0,
        bad: 0,
        unread: None,
    };
    let mut here = BTreeMap::new();
    for row in listed {
        let name = row
            .key
            .strip_prefix(&folder(environment))
            .and_then(|name| name.strip_suffix(".json"));
        match name {
            Some(name) if is_name(name) => {
                here.insert(name.to_owned(), row);
            }
            Some(name) if name.split_once('@').is_some_and(|(node, _)| is_name(node)) => {
                look.another(name, &row, gone_after);
            }
            _ => {
                let line = format!("`{}` is no record of a node", shown(&row.key));
                look.problems.push(line);
            }
        }
    }
    cache.records.retain(|name, _| here.contains_key(name));
    if !look.read_new(store, environment, &here, cache) {
        return Err(too_heavy(store, environment));
    }
    for (node, row) in here {
        let Some(kept) = cache.records.get(&node) else {
            continue;
        };
        if let Some(bad) = &kept.bad {
            let stays = match kept.record {
                Some(_) => "; its last good one stays",
                None => "",
            };
            let key = key(environment, &node);
            look.bad += 1;
            look.problems.push(format!("{key}: {bad}{stays}"));
        }
        look.rows.extend(kept.record.clone().map(|record| Row {
            node,
            record,
            seen: row.modified,
        }));
    }
    look.one_machine_twice(gone_after);
    Ok(look)
}

/// How long nothing was heard of a node. `None`: it has no record.
pub fn silence(
    store: &dyn Store,
    environment: &str,
    node: &str,
) -> Result<Option<Duration>, StoreError> {
    let own = key(environment, node);
    let listed = store.list(&own)?;
    let modified = listed.into_iter().find(|row| row.key == own);
    let modified = modified.map(|row| row.modified);
    let now = store.now().or(modified).unwrap_or(Timestamp::UNIX_EPOCH);
    Ok(modified.map(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default()))
}

/// Removes the record of a node, and those of machines that found its name taken. Returns how many
/// there were.
pub fn forget(store: &dyn Store, environment: &str, node: &str) -> Result<usize, StoreError> {
    let beside = format!("{}{node}@", folder(environment));
    let own = key(environment, node);
    let listed = store.list(&format!("{}{node}", folder(environment)))?;
    let keys = listed.into_iter().map(|row| row.key);
    let keys: Vec<String> = keys
        .filter(|key| *key == own || key.starts_with(&beside))
        .collect();
    for key in &keys {
        store.delete(key)?;
    }
    Ok(keys.len())
}

fn take_up(cache: &mut Cache, name: &str, etag: Etag, read: Result<Record, String>) {
    let before = cache.records.remove(name).and_then(|kept| kept.record);
    let (record, bad) = match read {
        Ok(record) => (Some(Arc::new(record)), None),
        Err(bad) => (before, Some(bad)),
    };
    let kept = Kept { etag, record, bad };
    cache.records.insert(name.to_owned(), kept);
}

impl Look {
    /// Reads what is new. `false`: what is known then takes too much memory, and not all was read.
    fn read_new(
        &mut self,
        store: &dyn Store,
        environment: &str,
        here: &BTreeMap<String, Listed>,
        cache: &mut Cache,
    ) -> bool {
        let is_new = |name: &str, row: &Listed| {
            let known = cache.records.get(name);
            known.is_none_or(|kept| kept.etag != row.etag)
        };
        let new: Vec<(&String, &Listed)> = here
            .iter()
            .filter(|(name, row)| is_new(name, row))
            .collect();
        let small = |row: &Listed| row.size <= MAX_RECORD as u64;
        let wanted: Vec<&(&String, &Listed)> = new.iter().filter(|(_, row)| small(row)).collect();
        let keys: Vec<String> = wanted.iter().map(|(_, row)| row.key.clone()).collect();
        let (mut known, mut unknown) = (Unreads::default(), Unreads::default());
        let mut weight = cache.weight();
        store.get_many(&keys, MAX_RECORD, &mut |number, answer| {
            let (name, _) = wanted[number];
            match answer {
                Ok(Fetched::Object(object)) if weight <= MAX_WEIGHT => {
                    let read = Record::read(name, environment, &object.body);
                    weight -= cache.records.get(*name).map_or(0, Kept::weight);
                    take_up(cache, name, object.etag, read);
                    weight += cache.records.get(*name).map_or(0, Kept::weight);
                }
                Ok(Fetched::Object(_)) => {}
                // Removed since the list, or never unconditional: the next look tells.
                Ok(Fetched::Missing | Fetched::Unchanged) => {}
                Err(error) => match cache.records.get(*name) {
                    Some(Kept {
                        record: Some(_), ..
                    }) => known.add(error),
                    _ => unknown.add(error),
                },
            }
        });
        if let Some(known) = known.0 {
            self.problems
                .push(format!("{known}; what was known of it stays"));
        }
        self.unread = unknown.0;
        let unknown = self.unread.as_ref().map(Unread::to_string);
        self.problems.extend(unknown);
        for (name, row) in new.iter().filter(|(_, row)| !small(row)) {
            take_up(cache, name, row.etag.clone(), Err(too_large(row.size)));
        }
        self.reads = keys.len();
        weight <= MAX_WEIGHT
    }

    /// A machine that found its name taken (see [`super::Own`]).
    fn another(&mut self, name: &str, row: &Listed, gone_after: Duration) {
        let silent = Duration::try_from(self.now.duration_since(row.modified)).unwrap_or_default();
        if let Some((node, machine)) = name.split_once('@')
            && silent <= gone_after
        {
            self.problems.push(format!(
                "two machines call themselves `{node}`; the one with the id {}… came second and is not listed: give it a name of its own (`node:` in its settings)",
                shown(machine)
            ));
        }
    }

    /// A machine that was copied with its id and renamed since.
    fn one_machine_twice(&mut self, gone_after: Duration) {
        let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for row in &self.rows {
            if let Some(id) = &row.record.machine_id
                && row.silent(self.now) <= gone_after
            {
                names.entry(id).or_default().push(&row.node);
            }
        }
        for nodes in names.values().filter(|nodes| nodes.len() > 1) {
            self.problems.push(format!(
                "{} have the same machine id: is one a copy of the other? Give it one of its own (`rm /etc/machine-id; systemd-machine-id-setup`), or wait until a name that it had before is forgotten",
                some_of(nodes)
            ));
        }
    }
}

/// `a and b`, or `a, b, c, d and 19996 more`.
fn some_of(nodes: &[&str]) -> String {
    const SHOWN: usize = 4;
    match nodes.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        None => nodes.join(" and "),
        Some(more) => format!("{} and {more} more", nodes[..SHOWN].join(", ")),
    }
}

/// What the hosts of all environments say that they have acted on, and what could not be read of it. Each node
/// says it once, in the record of its name, and while it lives: what a machine reports beside a name that is
/// taken (`NODE@…`) is no voice, else whoever may write one record would have many.
pub fn acted_on(
    store: &dyn Store,
    gone_after: Duration,
) -> Result<(Vec<ActedOn>, Option<Unread>), StoreError> {
    let listed = store.list("nodes/")?;
    let newest = listed.iter().map(|row| row.modified).max();
    let now = store.now().or(newest).unwrap_or(Timestamp::UNIX_EPOCH);
    let lives = |row: &Listed| {
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
    let mut unread = Unreads::default();
    store.get_many(&keys, MAX_RECORD, &mut |number, answer| {
        let (_, environment, node) = &names[number];
        match answer {
            Ok(Fetched::Object(object)) => {
                let record = Record::read(node, environment, &object.body);
                found.extend(record.ok().and_then(|record| {
                    Some(ActedOn {
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
