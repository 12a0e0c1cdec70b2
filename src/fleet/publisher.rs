//! This host's own record: written when it says something new, and as a heartbeat.
//!
//! What was written last is noted in `/run`, so that a pass in which nothing changed asks nobody. Two
//! machines of one name would take turns in overwriting each other, and with each turn every load
//! balancer would reload: so a record of another machine that still lives is left alone, and the second
//! one reports beside it, as `NODE@MACHINE`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::record::{LastPass, Record};
use super::{RecordCache, record_key, sanitize_line};
use crate::digest::digest;
use crate::ports::root::{Attrs, RootError};
use crate::ports::store::{
    Etag, GetOutcome, Object, PutOutcome, Store, StoreError, WriteCondition,
};
use crate::ports::{Host, RUN_DIR};
use crate::settings::{FleetSettings, is_name};

const VERSION: u32 = 1;
const MAX_FILE: usize = 1 << 20;
/// How often a write is tried again that another one came before.
const MAX_ATTEMPTS: usize = 3;

/// What was written last (`/run/trueup/node.json`).
#[derive(Debug, Clone, Serialize, Deserialize)]
struct LastPublished {
    version: u32,
    store: String,
    key: String,
    /// When, by this host's clock.
    at: Timestamp,
    /// `None`: it is not in the store.
    etag: Option<Etag>,
    record: Record,
    /// It is not in the store as it should be.
    #[serde(default)]
    untold: Option<PublishFailure>,
}

/// Why peers do not learn of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PublishFailure {
    why: String,
    /// The next pass tries again, and not only the next heartbeat.
    #[serde(default)]
    soon: bool,
}

/// Writes the record of this host.
pub struct RecordPublisher<'a> {
    pub host: &'a Host,
    pub store: &'a dyn Store,
    /// As the store is called in the settings.
    pub store_name: &'a str,
    pub fleet: &'a FleetSettings,
}

/// What there is to say about the own record.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PublishOutcome {
    /// For the report.
    pub report_lines: Vec<String>,
    /// Why peers do not learn of this host; they take it for gone after a while.
    pub publish_error: Option<String>,
    /// It was found out just now and not only remembered.
    pub is_new: bool,
}

/// How a write of the record ended.
enum WriteResult {
    Written(Etag),
    /// Another machine has this name, and lives.
    NameTaken(String),
}

impl RecordPublisher<'_> {
    /// Writes the record if it says something new or its heartbeat is due. Returns what to say about it;
    /// never fails, because a host whose record is old still converges.
    pub fn publish(&self, record: Record) -> PublishOutcome {
        let untold = |why: String| PublishOutcome {
            publish_error: Some(why),
            ..PublishOutcome::default()
        };
        if !is_name(&record.node) {
            return untold(format!(
                "`{}` cannot be the name of a node, so peers do not learn of it: set `node:` in the settings",
                sanitize_line(&record.node)
            ));
        }
        let key = record_key(&record.environment, &record.node);
        let last = self.last_published();
        let record = match record.fit_to_limit() {
            Ok(record) => record,
            Err(why) => return untold(format!("peers do not learn of this host: {why}")),
        };
        if let Some(last) = &last
            && last.key == key
            && !self.is_due(last, &record)
        {
            return PublishOutcome {
                publish_error: last.untold.clone().map(|untold| untold.why),
                ..PublishOutcome::default()
            };
        }
        // The same content has the same version, whenever it was written.
        let record = match &last {
            Some(last) if last.record.same_content(&record) => last.record.clone(),
            _ => record,
        };
        let known = last.as_ref().filter(|last| last.key == key);
        let answer = self.write_record(&key, &record, known.and_then(|last| last.etag.as_ref()));
        let before = known.and_then(|last| last.untold.clone());
        let mut published = LastPublished {
            version: VERSION,
            store: self.store.address().to_owned(),
            key,
            at: self.host.clock.now(),
            etag: None,
            record,
            untold: None,
        };
        let mut report_lines = Vec::new();
        match answer {
            Ok(WriteResult::Written(etag)) => {
                let learnt = RecordCache::update_own_record(
                    self.host,
                    self.store_name,
                    &published.record,
                    &etag,
                );
                report_lines.extend(learnt.err().map(|error| error.to_string()));
                published.etag = Some(etag);
                report_lines.extend(
                    last.as_ref()
                        .and_then(|last| self.delete_former_record(last, &published)),
                );
            }
            Ok(WriteResult::NameTaken(machine)) => {
                published.untold = Some(PublishFailure::retry_at_heartbeat(name_taken_message(
                    &published.record.node,
                    &machine,
                )));
            }
            // The next pass tries again. One that is not heard of once is not gone yet.
            Err(error @ StoreError::Unreachable { .. }) => {
                if let Some(known) = known {
                    published.at = known.at;
                    published.etag.clone_from(&known.etag);
                }
                let silent = self.host.clock.now().duration_since(published.at);
                let silent = Duration::try_from(silent).unwrap_or_default();
                let was_told = known.is_some_and(|known| known.untold.is_none());
                if was_told && silent < 2 * self.fleet.heartbeat() {
                    return PublishOutcome::default();
                }
                published.untold = Some(PublishFailure {
                    why: format!("peers do not learn of this host: {error}"),
                    soon: true,
                });
            }
            Err(error) => {
                published.untold = Some(PublishFailure::retry_at_heartbeat(format!(
                    "peers do not learn of this host, and take it for gone after a while: {error} (allow writes to `nodes/`, or say `fleet: {{publish: false}}`)"
                )));
            }
        }
        if let Err(error) = self.save_last_published(&published) {
            report_lines.push(format!("cannot note what was published: {error}"));
        }
        PublishOutcome {
            is_new: !report_lines.is_empty()
                || (published.untold.is_some() && published.untold != before),
            publish_error: published.untold.map(|untold| untold.why),
            report_lines,
        }
    }

    /// Before a pass that may take long: the heartbeat, if it is due.
    pub fn send_heartbeat(&self) {
        if let Some(last) = self.last_published()
            && last.etag.is_some()
        {
            self.publish(last.record);
        }
    }

    /// After a pass that could not be made at all: the host goes on serving what it serves, and goes on
    /// saying so.
    pub fn republish(&self, node: &str, environment: &str, machine: Option<&str>, pass: LastPass) {
        let key = record_key(environment, node);
        let noted = self.last_published().filter(|last| last.key == key);
        let record = match noted {
            Some(last) => Some(last.record),
            None => match self.store.get(&key, None) {
                Ok(GetOutcome::Object(object)) => Record::parse(node, environment, &object.body)
                    .ok()
                    .filter(|record| record.machine_id.as_deref() == machine),
                _ => None,
            },
        };
        if let Some(record) = record {
            self.publish(Record {
                last_pass: pass,
                ..record
            });
        }
    }

    fn is_due(&self, last: &LastPublished, record: &Record) -> bool {
        let waited = self.host.clock.now().duration_since(last.at);
        // A clock that was set back must not silence the host.
        let waited = Duration::try_from(waited);
        let beat = waited.map_or(true, |waited| waited >= self.fleet.heartbeat());
        // What does not take it does not take it sooner for being asked more often.
        match &last.untold {
            Some(untold) => beat || untold.soon,
            None => beat || !last.record.same_content(record),
        }
    }

    fn write_record(
        &self,
        key: &str,
        record: &Record,
        known: Option<&Etag>,
    ) -> Result<WriteResult, StoreError> {
        let body = record.to_json();
        let mut known = known.cloned();
        for _ in 0..MAX_ATTEMPTS {
            let answer = match &known {
                Some(etag) => self.store.put(key, &body, WriteCondition::Matches(etag))?,
                None => PutOutcome::Conflict,
            };
            if let PutOutcome::Written(etag) = answer {
                return Ok(WriteResult::Written(etag));
            }
            let there = match self.store.get(key, None) {
                // S3 refuses to say that nothing is there to whoever may not list.
                Err(refused @ StoreError::Refused { .. }) => {
                    return match self.store.put(key, &body, WriteCondition::Absent)? {
                        PutOutcome::Written(etag) => Ok(WriteResult::Written(etag)),
                        PutOutcome::Conflict => Err(refused),
                    };
                }
                there => there?,
            };
            match there {
                GetOutcome::Object(object) => {
                    // It is not what this host wrote last: somebody else did, just now.
                    let contested = known.is_some();
                    if let Some(machine) = self.conflicting_machine(record, &object, contested) {
                        self.write_conflict_record(record, &body)?;
                        return Ok(WriteResult::NameTaken(machine));
                    }
                    known = Some(object.etag);
                }
                // Nobody's yet, or somebody emptied the registry by hand.
                GetOutcome::Missing | GetOutcome::Unchanged => {
                    if let PutOutcome::Written(etag) =
                        self.store.put(key, &body, WriteCondition::Absent)?
                    {
                        return Ok(WriteResult::Written(etag));
                    }
                    known = None;
                }
            }
        }
        Err(StoreError::Unreachable {
            store: self.store.address().to_owned(),
            why: format!("somebody else goes on writing {key}"),
        })
    }

    /// The id of the machine whose record this is, if it is another one and lives. Copies of a machine
    /// have the same id: of two that contest a name, the one with the lower address keeps it.
    fn conflicting_machine(
        &self,
        record: &Record,
        object: &Object,
        contested: bool,
    ) -> Option<String> {
        let theirs = Record::parse(&record.node, &record.environment, &object.body).ok()?;
        let is_copy = contested && theirs.addresses < record.addresses;
        let (id, ours) = (theirs.machine_id?, record.machine_id.as_ref()?);
        let now = self.store.server_time()?;
        let silent = Duration::try_from(now.duration_since(object.modified)).unwrap_or_default();
        ((id != *ours || is_copy) && silent <= self.fleet.gone_after()).then_some(id)
    }

    fn write_conflict_record(&self, record: &Record, body: &[u8]) -> Result<(), StoreError> {
        let machine: String = record
            .machine_id
            .iter()
            .flat_map(|id| id.chars())
            .take(8)
            .collect();
        let beside = record_key(&record.environment, &format!("{}@{machine}", record.node));
        self.store
            .put(&beside, body, WriteCondition::Always)
            .map(drop)
    }

    /// Takes away what this host wrote under a name, or in an environment, that it no longer has.
    fn delete_former_record(&self, last: &LastPublished, now: &LastPublished) -> Option<String> {
        if last.key == now.key || last.etag.is_none() {
            return None;
        }
        let left = self.store.delete(&last.key);
        left.err()
            .map(|error| format!("the record of its former name stays: {error}"))
    }

    fn path() -> PathBuf {
        Path::new(RUN_DIR).join("node.json")
    }

    fn last_published(&self) -> Option<LastPublished> {
        load_last_published(self.host).filter(|note| note.store == self.store.address())
    }

    fn save_last_published(&self, note: &LastPublished) -> Result<(), RootError> {
        let body = serde_json::to_vec(note).expect("plain data is always JSON");
        let root = &self.host.root;
        root.create_dir_all(Path::new(RUN_DIR), &Attrs::mode(0o755))?;
        root.write_atomic(&RecordPublisher::path(), &body, &Attrs::mode(0o644))
    }
}

impl PublishFailure {
    fn retry_at_heartbeat(why: String) -> PublishFailure {
        PublishFailure { why, soon: false }
    }
}

fn load_last_published(host: &Host) -> Option<LastPublished> {
    let body = host.root.read(&RecordPublisher::path(), MAX_FILE).ok()??;
    let note: LastPublished = serde_json::from_slice(&body).ok()?;
    (note.version == VERSION).then_some(note)
}

/// Why peers do not learn of this host, as the last pass found it. Asks nobody.
pub fn publish_error(host: &Host, environment: &str, node: &str) -> Option<String> {
    let note =
        load_last_published(host).filter(|note| note.key == record_key(environment, node))?;
    note.untold.map(|untold| untold.why)
}

fn name_taken_message(node: &str, machine: &str) -> String {
    let machine: String = machine.chars().take(8).collect();
    format!(
        "another machine (its id is {machine}…) is the node `{node}`, so peers do not learn of this one: if this one replaces it, `trueup fleet --forget {node} --yes`; else give it a name of its own (`node:` in the settings). Without either, the other one's name is free after `gone_after`"
    )
}

/// What tells this machine from others, without telling its id itself: that one is nobody's business
/// (machine-id(5)). `None`: the host has none.
pub fn machine_id(host: &Host) -> Option<String> {
    let id = host.root.read(Path::new("/etc/machine-id"), 4096).ok()??;
    let id = String::from_utf8(id).ok()?;
    let id = id.trim();
    let whole = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut name = digest(format!("trueup node {id}").as_bytes());
    name.truncate(32);
    whole.then_some(name)
}
