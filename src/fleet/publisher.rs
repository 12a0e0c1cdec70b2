//! Publishes this host's own record: when its content changes, and as a heartbeat.
//!
//! The last published record is saved in `/run`, so that a pass without changes needs no request. Two
//! machines with one name would overwrite each other in turns, and every load balancer would reload each
//! time: so the publisher leaves the record of another live machine alone, and the second machine reports
//! beside it, as `NODE@MACHINE`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::record::{LastPass, NodeRecord};
use super::{RecordCache, record_key, sanitize_line};
use crate::digest::digest;
use crate::ports::root::RootError;
use crate::ports::state::Document;
use crate::ports::store::{
    Etag, GetOutcome, Object, PutOutcome, Store, StoreError, WriteCondition,
};
use crate::ports::{Host, RUN_DIR};
use crate::settings::{FleetSettings, is_name};

const VERSION: u32 = 1;
const DOCUMENT: Document = Document::new(VERSION, 1 << 20).compact();
/// Attempts at a write while another writer keeps changing the object.
const MAX_ATTEMPTS: usize = 3;

/// The last published record (`/run/trueup/node.json`).
#[derive(Debug, Clone, Serialize, Deserialize)]
struct LastPublished {
    version: u32,
    store: String,
    key: String,
    /// Time of the write, by this host's clock.
    at: Timestamp,
    /// `None` if the store does not have it.
    etag: Option<Etag>,
    record: NodeRecord,
    /// Why the store does not have the record as it should.
    #[serde(default)]
    untold: Option<PublishFailure>,
}

/// Why peers do not see this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PublishFailure {
    why: String,
    /// Retry at the next pass instead of the next heartbeat.
    #[serde(default)]
    soon: bool,
}

/// Publishes the record of this host.
pub(crate) struct RecordPublisher<'a> {
    pub host: &'a Host,
    pub store: &'a dyn Store,
    /// The store's name in the settings.
    pub store_name: &'a str,
    pub fleet: &'a FleetSettings,
}

/// Messages about this host's own record.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PublishOutcome {
    pub report_lines: Vec<String>,
    /// Why peers do not see this host; after `gone_after` they treat it as gone.
    pub publish_error: Option<String>,
    /// This pass found it, and not an earlier one.
    pub is_new: bool,
}

enum WriteResult {
    Written(Etag),
    /// Another live machine has this name.
    NameTaken(String),
}

impl RecordPublisher<'_> {
    /// Writes the record if its content changed or the heartbeat is due. Never fails, because a host with an
    /// old record still converges.
    pub(crate) fn publish(&self, record: NodeRecord) -> PublishOutcome {
        let untold = |why: String| PublishOutcome {
            publish_error: Some(why),
            ..PublishOutcome::default()
        };
        if !is_name(&record.node) {
            return untold(format!(
                "`{}` is not a valid node name, so this host is not published to its peers: set `node:` in the settings",
                sanitize_line(&record.node)
            ));
        }
        let key = record_key(&record.environment, &record.node);
        let last = self.last_published();
        let record = match record.fit_to_limit() {
            Ok(record) => record,
            Err(why) => return untold(format!("this host is not published to its peers: {why}")),
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
        // Reuse the old record, whose bytes and ETag differ only by the time of its last pass.
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
            // The next pass retries. One missed heartbeat does not make a host gone yet.
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
                    why: format!("this host is not published to its peers: {error}"),
                    soon: true,
                });
            }
            Err(error) => {
                published.untold = Some(PublishFailure::retry_at_heartbeat(format!(
                    "this host is not published to its peers, and counts as gone after a while: {error} (allow writes to `nodes/`, or set `fleet: {{publish: false}}`)"
                )));
            }
        }
        if let Err(error) = self.save_last_published(&published) {
            report_lines.push(format!("cannot save what was published: {error}"));
        }
        PublishOutcome {
            is_new: !report_lines.is_empty()
                || (published.untold.is_some() && published.untold != before),
            publish_error: published.untold.map(|untold| untold.why),
            report_lines,
        }
    }

    /// Sends the heartbeat if it is due; called before a pass that may take long.
    pub(crate) fn send_heartbeat(&self) {
        if let Some(last) = self.last_published()
            && last.etag.is_some()
        {
            self.publish(last.record);
        }
    }

    /// Publishes the last record again after a pass that could not start: the host goes on serving, and its
    /// record must not expire.
    pub(crate) fn republish(
        &self,
        node: &str,
        environment: &str,
        machine: Option<&str>,
        pass: LastPass,
    ) {
        let key = record_key(environment, node);
        let noted = self.last_published().filter(|last| last.key == key);
        let record = match noted {
            Some(last) => Some(last.record),
            None => match self.store.get(&key, None) {
                Ok(GetOutcome::Object(object)) => {
                    NodeRecord::parse(node, environment, &object.body)
                        .ok()
                        .filter(|record| record.machine_id.as_deref() == machine)
                }
                _ => None,
            },
        };
        if let Some(record) = record {
            self.publish(NodeRecord {
                last_pass: pass,
                ..record
            });
        }
    }

    fn is_due(&self, last: &LastPublished, record: &NodeRecord) -> bool {
        let waited = self.host.clock.now().duration_since(last.at);
        // A clock that was set back must not silence the host.
        let waited = Duration::try_from(waited);
        let beat = waited.map_or(true, |waited| waited >= self.fleet.heartbeat());
        // A store that refuses the record does not accept it sooner for more attempts.
        match &last.untold {
            Some(untold) => beat || untold.soon,
            None => beat || !last.record.same_content(record),
        }
    }

    fn write_record(
        &self,
        key: &str,
        record: &NodeRecord,
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
                // S3 answers 403 instead of 404 to a client without the right to list.
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
                    // Another writer replaced the record that this host wrote last.
                    let contested = known.is_some();
                    if let Some(machine) = self.conflicting_machine(record, &object, contested) {
                        self.write_conflict_record(record, &body)?;
                        return Ok(WriteResult::NameTaken(machine));
                    }
                    known = Some(object.etag);
                }
                // New name, or an operator emptied the registry.
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
            why: format!("another machine keeps writing {key}"),
        })
    }

    /// The machine id in the object, if it is another live machine's. Copies of a machine have the same id:
    /// of two that contest a name, the one with the lower address keeps it.
    fn conflicting_machine(
        &self,
        record: &NodeRecord,
        object: &Object,
        contested: bool,
    ) -> Option<String> {
        let theirs = NodeRecord::parse(&record.node, &record.environment, &object.body).ok()?;
        let is_copy = contested && theirs.addresses < record.addresses;
        let (id, ours) = (theirs.machine_id?, record.machine_id.as_ref()?);
        let now = self.store.server_time()?;
        let silent = Duration::try_from(now.duration_since(object.modified)).unwrap_or_default();
        ((id != *ours || is_copy) && silent <= self.fleet.gone_after()).then_some(id)
    }

    fn write_conflict_record(&self, record: &NodeRecord, body: &[u8]) -> Result<(), StoreError> {
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

    /// Deletes the record under a name or environment that this host no longer has.
    fn delete_former_record(&self, last: &LastPublished, now: &LastPublished) -> Option<String> {
        if last.key == now.key || last.etag.is_none() {
            return None;
        }
        let left = self.store.delete(&last.key);
        left.err()
            .map(|error| format!("cannot remove the record of its former name: {error}"))
    }

    fn path() -> PathBuf {
        Path::new(RUN_DIR).join("node.json")
    }

    fn last_published(&self) -> Option<LastPublished> {
        load_last_published(self.host).filter(|note| note.store == self.store.address())
    }

    fn save_last_published(&self, note: &LastPublished) -> Result<(), RootError> {
        DOCUMENT.save(&self.host.root, &RecordPublisher::path(), note)
    }
}

impl PublishFailure {
    fn retry_at_heartbeat(why: String) -> PublishFailure {
        PublishFailure { why, soon: false }
    }
}

fn load_last_published(host: &Host) -> Option<LastPublished> {
    DOCUMENT.load_cache(&host.root, &RecordPublisher::path())
}

/// Why peers do not see this host, as the last pass saved it. Makes no request.
pub(crate) fn publish_error(host: &Host, environment: &str, node: &str) -> Option<String> {
    let note =
        load_last_published(host).filter(|note| note.key == record_key(environment, node))?;
    note.untold.map(|untold| untold.why)
}

fn name_taken_message(node: &str, machine: &str) -> String {
    let machine: String = machine.chars().take(8).collect();
    format!(
        "another machine (id {machine}…) uses the node name `{node}`, so this one is not published to its peers: if this one replaces it, `trueup fleet --forget {node} --yes`; else give it its own name (`node:` in the settings). Otherwise the name becomes free after `gone_after`"
    )
}

/// An id derived from the machine id, which itself must stay confidential (machine-id(5)). `None` if the
/// host has none.
pub(crate) fn machine_id(host: &Host) -> Option<String> {
    let id = host.root.read(Path::new("/etc/machine-id"), 4096).ok()??;
    let id = String::from_utf8(id).ok()?;
    let id = id.trim();
    let whole = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut name = digest(format!("trueup node {id}").as_bytes());
    name.truncate(32);
    whole.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::state::testing::assert_round_trip;

    #[test]
    fn example_of_the_last_published_record_survives_a_round_trip() {
        assert_round_trip::<LastPublished>(&DOCUMENT, "last-published.json");
    }
}
