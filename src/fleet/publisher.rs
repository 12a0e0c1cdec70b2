//! Publishes this host's own record: when its content changes, and as a heartbeat.
//!
//! The last published record is saved in `/run`, so that a pass without changes needs no request. Two
//! machines with one name would overwrite each other in turns, and every load balancer would reload each
//! time: so the publisher leaves the record of another live machine alone, and the second machine reports
//! beside it, as `NODE@MACHINE`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::last_published::{self, LastPublished, PublishFailure};
use super::record::{AppRecord, LastPass, NodeRecord};
use super::{RecordCache, record_key, sanitize_line};
use crate::digest::digest;
use crate::ports::Host;
use crate::ports::store::{
    Etag, GetOutcome, Object, PutOutcome, Store, StoreError, WriteCondition,
};
use crate::settings::{FleetSettings, is_name};

/// Attempts at a write while another writer keeps changing the object.
const MAX_ATTEMPTS: usize = 3;

/// How long a store that refused the record is left alone: an operator may have allowed it meanwhile.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// Publishes the record of this host.
pub(crate) struct RecordPublisher<'a> {
    pub host: &'a Host,
    pub store: &'a dyn Store,
    /// The store's name in the settings.
    pub store_name: &'a str,
    pub fleet: &'a FleetSettings,
    /// The store answers this pass, and did not answer the one before: what it refused then, it may allow now.
    pub store_returned: bool,
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
        let record = match validate(record) {
            Ok(record) => record,
            Err(why) => return PublishOutcome::unchanged(Some(why)),
        };
        let key = record_key(&record.environment, &record.node);
        let last = self.last_published();
        let same_key = last.as_ref().filter(|last| last.key == key);
        if let Some(last) = same_key
            && !self.is_due(last, &record)
        {
            let publish_error = last.publish_error.as_ref();
            return PublishOutcome::unchanged(publish_error.map(|failure| failure.why.clone()));
        }
        // Reuse the old record, whose bytes and ETag differ only by the time of its last pass.
        let record = match &last {
            Some(last) if last.record.same_content(&record) => last.record.clone(),
            _ => record,
        };
        let known_etag = same_key.and_then(|last| last.etag.as_ref());
        let result = self.write_record(&key, &record, known_etag);
        let mut published = LastPublished {
            version: last_published::VERSION,
            store: self.store.address().to_owned(),
            key,
            at: self.host.clock.now(),
            etag: None,
            record,
            uncertain: false,
            publish_error: None,
        };
        let mut report_lines = Vec::new();
        match result {
            Ok(WriteResult::Written(etag)) => {
                report_lines = self.finish_write(last.as_ref(), &published, &etag);
                published.etag = Some(etag);
            }
            Err(StoreError::Unreachable { .. }) if self.may_miss_heartbeat(same_key) => {
                return PublishOutcome::default();
            }
            Err(error @ StoreError::Unreachable { .. }) => {
                if let Some(last) = same_key {
                    published.at = last.at;
                    published.etag.clone_from(&last.etag);
                }
                published.publish_error = Some(PublishFailure::unreachable(&error));
            }
            Err(error) => published.publish_error = Some(PublishFailure::refused(&error)),
            Ok(WriteResult::NameTaken(machine)) => {
                let node = &published.record.node;
                published.publish_error = Some(PublishFailure::name_taken(node, &machine));
            }
        }
        let previous_error = same_key.and_then(|last| last.publish_error.as_ref());
        self.save_outcome(published, previous_error, report_lines)
    }

    /// Follows up on a written record. Returns lines for the report.
    fn finish_write(
        &self,
        last: Option<&LastPublished>,
        published: &LastPublished,
        etag: &Etag,
    ) -> Vec<String> {
        let cached =
            RecordCache::update_own_record(self.host, self.store_name, &published.record, etag);
        let cache_error = cached.err().map(|error| error.to_string());
        let former = last.filter(|last| last.key != published.key && last.etag.is_some());
        let former_error = former.and_then(|former| self.delete_former_record(former));
        cache_error.into_iter().chain(former_error).collect()
    }

    /// Whether the report omits that the store did not answer: the next pass retries, and one missed
    /// heartbeat does not make a host gone yet.
    fn may_miss_heartbeat(&self, last: Option<&LastPublished>) -> bool {
        last.is_some_and(|last| {
            let silent = self.host.clock.now().duration_since(last.at);
            let silent = Duration::try_from(silent).unwrap_or_default();
            last.publish_error.is_none() && silent < 2 * self.fleet.heartbeat()
        })
    }

    fn save_outcome(
        &self,
        published: LastPublished,
        previous_error: Option<&PublishFailure>,
        mut report_lines: Vec<String>,
    ) -> PublishOutcome {
        if let Err(error) = published.save(self.host) {
            report_lines.push(format!("cannot save what was published: {error}"));
        }
        let publish_error = published.publish_error;
        let is_new_error = publish_error.is_some() && publish_error.as_ref() != previous_error;
        PublishOutcome {
            is_new: !report_lines.is_empty() || is_new_error,
            publish_error: publish_error.map(|failure| failure.why),
            report_lines,
        }
    }

    /// Writes what a pass is at, over the last record, unless that says the same. One attempt, which takes at most
    /// `limit`: a pass waits for nothing that its end says again. Returns whether another one makes sense.
    pub(crate) fn publish_progress(
        &self,
        apps: &BTreeMap<String, AppRecord>,
        last_pass: &LastPass,
        limit: Duration,
    ) -> bool {
        let last = self.last_published();
        let Some((mut last, etag)) = last.and_then(|last| {
            let etag = last.etag.clone().filter(|_| last.publish_error.is_none())?;
            Some((last, etag))
        }) else {
            return false;
        };
        let mut record = last.record.clone();
        record.last_pass = last_pass.clone();
        record.apps.extend(apps.clone());
        let Ok(record) = validate(record) else {
            return false;
        };
        if last.record.same_content(&record) {
            return true;
        }
        let condition = WriteCondition::Matches(&etag);
        let body = record.to_json();
        // If trueup is killed during the request, the next pass has to write again whatever the record says.
        last.uncertain = true;
        if last.save(self.host).is_err() {
            return false;
        }
        match self.store.put_within(limit, &last.key, &body, condition) {
            Ok(PutOutcome::Written(etag)) => {
                last.record = record;
                last.uncertain = false;
                last.at = self.host.clock.now();
                let _ = self.finish_write(Some(&last), &last, &etag);
                last.etag = Some(etag);
                last.save(self.host).is_ok()
            }
            Ok(PutOutcome::Conflict) => false,
            Err(error) => {
                tracing::debug!("the progress of this pass is not published: {error}");
                false
            }
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

    /// Publishes the last record again after a pass that could not start: the host keeps serving, and its
    /// record must not expire.
    pub(crate) fn republish(
        &self,
        node: &str,
        environment: &str,
        machine: Option<&str>,
        pass: LastPass,
    ) {
        let key = record_key(environment, node);
        let last = self.last_published().filter(|last| last.key == key);
        let record = match last {
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
        let age = Duration::try_from(self.host.clock.now().duration_since(last.at));
        // A clock that was set back must not silence the host.
        let is_older = |limit| age.as_ref().map_or(true, |age| *age >= limit);
        let heartbeat_due = is_older(self.fleet.heartbeat()) || last.uncertain;
        match &last.publish_error {
            Some(failure) if failure.refused => {
                heartbeat_due || self.store_returned || is_older(REFUSED_PAUSE)
            }
            Some(failure) => heartbeat_due || failure.soon,
            None => heartbeat_due || !last.record.same_content(record),
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
            let replaced = match &known {
                Some(etag) => self.store.put(key, &body, WriteCondition::Matches(etag))?,
                None => PutOutcome::Conflict,
            };
            if let PutOutcome::Written(etag) = replaced {
                return Ok(WriteResult::Written(etag));
            }
            let stored = match self.store.get(key, None) {
                // S3 answers 403 instead of 404 to a client without the right to list.
                Err(refused @ StoreError::Refused { .. }) => {
                    return match self.store.put(key, &body, WriteCondition::Absent)? {
                        PutOutcome::Written(etag) => Ok(WriteResult::Written(etag)),
                        PutOutcome::Conflict => Err(refused),
                    };
                }
                answer => answer?,
            };
            match stored {
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
            hint: "`trueup fleet` lists the hosts; give each a name of its own (`node:` in the settings)",
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
        let stored = NodeRecord::parse(&record.node, &record.environment, &object.body).ok()?;
        let is_copy = contested && stored.addresses < record.addresses;
        let (id, own_id) = (stored.machine_id?, record.machine_id.as_ref()?);
        let now = self.store.server_time()?;
        let silent = Duration::try_from(now.duration_since(object.modified)).unwrap_or_default();
        ((id != *own_id || is_copy) && silent <= self.fleet.gone_after()).then_some(id)
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
    fn delete_former_record(&self, former: &LastPublished) -> Option<String> {
        let error = self.store.delete(&former.key).err()?;
        Some(format!(
            "cannot remove the record of its former name: {error}"
        ))
    }

    /// The last published record.
    pub(crate) fn last_record(&self) -> Option<NodeRecord> {
        Some(self.last_published()?.record)
    }

    fn last_published(&self) -> Option<LastPublished> {
        LastPublished::load(self.host).filter(|last| last.store == self.store.address())
    }
}

impl PublishOutcome {
    /// The store still has what an earlier pass wrote, or still lacks it for this reason.
    fn unchanged(publish_error: Option<String>) -> PublishOutcome {
        PublishOutcome {
            publish_error,
            ..PublishOutcome::default()
        }
    }
}

/// Refuses a record that peers could not read.
fn validate(record: NodeRecord) -> Result<NodeRecord, String> {
    if !is_name(&record.node) {
        return Err(format!(
            "`{}` is not a valid node name, so this host is not published to its peers: set `node:` in the settings",
            sanitize_line(&record.node)
        ));
    }
    let fitted = record.fit_to_limit();
    fitted.map_err(|why| format!("this host is not published to its peers: {why}"))
}

/// An id derived from the machine id, which itself must stay confidential (machine-id(5)). `None` if the
/// host has none.
pub(crate) fn machine_id(host: &Host) -> Option<String> {
    let id = host.root.read(Path::new("/etc/machine-id"), 4096).ok()??;
    let id = String::from_utf8(id).ok()?;
    let id = id.trim();
    let is_valid = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut derived = digest(format!("trueup node {id}").as_bytes());
    derived.truncate(32);
    is_valid.then_some(derived)
}
