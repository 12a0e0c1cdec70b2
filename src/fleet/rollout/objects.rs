//! The objects of an app's rollouts in a store: keys, sizes, and what is asked of other objects of the store.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::access::honours_conditions;
use super::identity::Nonce;
use super::object::{MAX_OBJECT, MAX_REGISTER, MAX_SLOTS, RolloutError, encode, parse};
use super::observer::RegisterObserver;
use super::once::OnceResult;
use super::quarantine::Quarantine;
use super::register::{Register, WantedHold, WantedShas};
use super::slot::{Slot, SlotHolder};
use super::store::{AppHost, Read, RolloutStore, Swap, Versioned};
use crate::desired::{AppEntry, Canary, Manifest, Sha, verify_published};
use crate::fleet::{NodeRow, RecordCache, any_record_besides, sanitize_line, take_snapshot};
use crate::ports::random::random_u64;
use crate::ports::root::Root;
use crate::ports::store::{Etag, GetOutcome, PutOutcome, Store, StoreError, WriteCondition};
use crate::settings::{FleetSettings, Signers, is_name};

/// Where rollouts happen.
#[derive(Clone, Copy)]
pub(crate) struct RolloutContext<'a> {
    /// Where records of other hosts are kept; `None` on a machine that is no host of the fleet.
    pub root: Option<&'a Root>,
    pub environment: &'a str,
    /// The store's name in the settings.
    pub store_name: &'a str,
    /// The manifest's key in the store.
    pub manifest_key: &'a str,
    pub fleet: &'a FleetSettings,
    /// Who may sign the manifest; `None`: unsigned ones are accepted.
    pub signers: Option<&'a Signers>,
}

/// The objects of one app in one environment.
pub(crate) struct StoreObjects<'a> {
    pub store: &'a dyn Store,
    pub context: RolloutContext<'a>,
    pub app: &'a str,
    pub canary: Option<&'a Canary>,
    /// An operator on this host goes over the holds of the manifest.
    pub ignores_hold: bool,
    /// Follows the reads and writes of the register.
    pub observer: Option<&'a RegisterObserver>,
}

/// The key of an app's register.
pub(crate) fn register_key(environment: &str, app: &str) -> String {
    format!("rollouts/{environment}/{app}.json")
}

/// The prefix of the marks of an app, or of those at a sha.
pub(crate) fn marks_prefix(environment: &str, app: &str, sha: Option<&Sha>) -> String {
    match sha {
        Some(sha) => format!("at/{environment}/{app}/{sha}/"),
        None => format!("at/{environment}/{app}/"),
    }
}

impl StoreObjects<'_> {
    fn register_key(&self, app: &str) -> String {
        register_key(self.context.environment, app)
    }

    pub(super) fn slots_prefix(&self) -> String {
        let StoreObjects { context, app, .. } = self;
        format!("slots/{}/{app}/", context.environment)
    }

    pub(super) fn slot_key(&self, number: u32) -> String {
        format!("{}{number}.json", self.slots_prefix())
    }

    fn quarantine_key(&self, sha: &Sha) -> String {
        let StoreObjects { context, app, .. } = self;
        format!("quarantine/{}/{app}/{sha}.json", context.environment)
    }

    fn once_key(&self, sha: &Sha, step: &str) -> String {
        let StoreObjects { context, app, .. } = self;
        format!("once/{}/{app}/{sha}/{step}.json", context.environment)
    }

    fn marks_prefix(&self, sha: &Sha) -> String {
        marks_prefix(self.context.environment, self.app, Some(sha))
    }

    fn read<T: DeserializeOwned>(&self, key: &str, limit: usize) -> Read<T> {
        let found = match self.store.get(key, None) {
            // No trueup wrote that, and an operator mends it like any other damage.
            Err(StoreError::TooLarge { limit: most, .. }) => {
                return Err(RolloutError::Object {
                    key: key.to_owned(),
                    why: format!("it has more than {most} bytes; at most {limit} are allowed"),
                });
            }
            found => found?,
        };
        Ok(match found {
            GetOutcome::Object(found) => Some(Versioned {
                object: parse(key, limit, &found.body)?,
                etag: found.etag,
            }),
            GetOutcome::Missing | GetOutcome::Unchanged => None,
        })
    }

    fn read_register(&self, app: &str) -> Read<Register> {
        let key = self.register_key(app);
        let found: Option<Versioned<Register>> = self.read(&key, MAX_REGISTER)?;
        if let Some(found) = &found
            && (found.object.app != app || found.object.environment != self.context.environment)
        {
            let Register {
                app, environment, ..
            } = &found.object;
            let why = sanitize_line(&format!("it claims to be of `{app}` in `{environment}`"));
            return Err(RolloutError::Object { key, why });
        }
        if let Some(found) = &found
            && found.object.slots > MAX_SLOTS
        {
            let why = format!(
                "it has {} slots; at most {MAX_SLOTS} are allowed",
                found.object.slots
            );
            return Err(RolloutError::Object { key, why });
        }
        Ok(found)
    }

    fn swap(
        &self,
        key: &str,
        limit: usize,
        object: &impl Serialize,
        known: Option<&Etag>,
    ) -> Result<Swap, RolloutError> {
        let body = encode(object);
        if body.len() > limit {
            let why = format!(
                "it would have {} bytes; at most {limit} are allowed",
                body.len()
            );
            let key = key.to_owned();
            return Err(RolloutError::Object { key, why });
        }
        let RolloutContext {
            root, environment, ..
        } = self.context;
        if !honours_conditions(root, self.store, environment)? {
            let store = self.store.address().to_owned();
            return Err(RolloutError::Unconditional { store });
        }
        let when = known.map_or(WriteCondition::Absent, WriteCondition::Matches);
        Ok(match self.store.put(key, &body, when)? {
            PutOutcome::Written(_) => Swap::Written,
            PutOutcome::Conflict => Swap::Conflict,
        })
    }

    /// The manifest now.
    pub(crate) fn manifest(&self) -> Result<Manifest, RolloutError> {
        let key = self.context.manifest_key;
        let refuse = |why: String| RolloutError::Manifest {
            key: key.to_owned(),
            why,
        };
        match self.store.get(key, None)? {
            GetOutcome::Object(found) => {
                let environment = self.context.environment;
                let parsed = match self.context.signers {
                    None => Manifest::parse(key, &found.body),
                    Some(signers) => {
                        let name = format!("{}/{key}", self.store.address());
                        let body = &found.body;
                        verify_published(self.store, &name, body, environment, signers, self.now())
                    }
                };
                parsed.map_err(|problem| refuse(sanitize_line(&problem.to_string())))
            }
            GetOutcome::Missing | GetOutcome::Unchanged => {
                Err(refuse("there is no manifest".into()))
            }
        }
    }

    fn wanted_in(
        &self,
        manifest: &Manifest,
        app: &str,
    ) -> Result<Option<WantedShas>, RolloutError> {
        let environment = manifest.environments.get(self.context.environment);
        let entry = environment.and_then(|environment| environment.entry(app));
        let entry = entry
            .transpose()
            .map_err(|problem| RolloutError::Manifest {
                key: self.context.manifest_key.to_owned(),
                why: sanitize_line(&problem.to_string()),
            })?;
        Ok(entry.map(|entry| {
            let now = self.now();
            let mut shas: Vec<Sha> = entry.wanted_shas().into_iter().collect();
            let first = entry.sha_for(&BTreeMap::new(), now);
            shas.sort_by_key(|sha| sha != first);
            WantedShas {
                generation: manifest
                    .generation_of(self.context.environment)
                    .unwrap_or(0),
                shas,
                hold: entry
                    .hold_at(now)
                    .filter(|_| !self.ignores_hold)
                    .map(WantedHold::of),
            }
        }))
    }

    /// The store's time, by which holds are judged. A store that does not say it leaves them in force.
    fn now(&self) -> Timestamp {
        self.store.server_time().unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

impl RolloutStore for StoreObjects<'_> {
    fn register(&self) -> Read<Register> {
        let found = self.read_register(self.app)?;
        if let Some(observer) = self.observer {
            observer.on_read(found.as_ref().map(|found| &found.object));
        }
        Ok(found)
    }

    fn register_of(&self, app: &str) -> Read<Register> {
        self.read_register(app)
    }

    fn swap_register(
        &self,
        register: &Register,
        known: Option<&Etag>,
    ) -> Result<Swap, RolloutError> {
        let swap = self.swap(&self.register_key(self.app), MAX_REGISTER, register, known)?;
        if let (Swap::Written, Some(observer)) = (swap, self.observer) {
            observer.on_write(register);
        }
        Ok(swap)
    }

    fn slot(&self, number: u32) -> Read<Slot> {
        self.read(&self.slot_key(number), MAX_OBJECT)
    }

    fn holders(&self, numbers: &[u32]) -> Result<Vec<(u32, SlotHolder)>, RolloutError> {
        self.read_holders(numbers)
    }

    fn swap_slot(
        &self,
        number: u32,
        slot: &Slot,
        known: Option<&Etag>,
    ) -> Result<Swap, RolloutError> {
        self.swap(&self.slot_key(number), MAX_OBJECT, slot, known)
    }

    fn quarantine(&self, sha: &Sha) -> Read<Quarantine> {
        self.read(&self.quarantine_key(sha), MAX_OBJECT)
    }

    fn swap_quarantine(
        &self,
        sha: &Sha,
        quarantine: &Quarantine,
        known: Option<&Etag>,
    ) -> Result<Swap, RolloutError> {
        self.swap(&self.quarantine_key(sha), MAX_OBJECT, quarantine, known)
    }

    fn once(&self, sha: &Sha, step: &str) -> Read<OnceResult> {
        self.read(&self.once_key(sha, step), MAX_OBJECT)
    }

    fn swap_once(
        &self,
        sha: &Sha,
        step: &str,
        result: &OnceResult,
        known: Option<&Etag>,
    ) -> Result<Swap, RolloutError> {
        self.swap(&self.once_key(sha, step), MAX_OBJECT, result, known)
    }

    fn put_mark(&self, sha: &Sha, node: &str) -> Result<(), RolloutError> {
        let key = format!("{}{node}", self.marks_prefix(sha));
        self.store.put(&key, b"", WriteCondition::Always)?;
        Ok(())
    }

    fn delete_mark(&self, sha: &Sha, node: &str) -> Result<(), RolloutError> {
        let key = format!("{}{node}", self.marks_prefix(sha));
        Ok(self.store.delete(&key)?)
    }

    fn marks(&self, sha: &Sha) -> Result<Vec<String>, RolloutError> {
        let prefix = self.marks_prefix(sha);
        let listed = self.store.list(&prefix)?.into_iter();
        let nodes = listed.filter_map(|object| Some(object.key.strip_prefix(&prefix)?.to_owned()));
        // Whoever may write in the store may have written other keys there.
        Ok(nodes.filter(|node| is_name(node)).collect())
    }

    fn hosts(&self) -> Result<Vec<AppHost>, RolloutError> {
        let RolloutContext {
            root,
            environment,
            store_name,
            fleet,
            ..
        } = self.context;
        let mut cache = match root {
            Some(root) => RecordCache::load(root, store_name, environment),
            None => RecordCache::empty(store_name, environment),
        };
        let gone_after = fleet.gone_after();
        let snapshot = take_snapshot(self.store, environment, gone_after, &mut cache)?;
        if let Some(unread) = snapshot.unread {
            return Err(unread.first.into());
        }
        let manifest = self.manifest()?;
        let entry = self.entry_in(&manifest);
        let rows = snapshot.rows.iter();
        let hosts = rows.filter_map(|row| self.app_host(row, snapshot.now, entry));
        Ok(hosts.collect())
    }

    fn are_all_hosts(&self, sha: &Sha, nodes: &BTreeSet<String>) -> Result<bool, RolloutError> {
        let RolloutContext {
            environment, fleet, ..
        } = self.context;
        let manifest = self.manifest()?;
        let entry = self.entry_in(&manifest);
        let is_wanted = |entry: &AppEntry| {
            entry.wanted_shas().contains(sha) && entry.over_sha(self.now()) != Some(sha)
        };
        if !entry.is_some_and(is_wanted) {
            return Ok(false);
        }
        let is_missing = |row: &NodeRow, now| {
            let host = self.app_host(row, now, entry);
            host.is_some_and(|host| host.is_live && host.wanted.as_ref() == Some(sha))
        };
        let gone_after = fleet.gone_after();
        let some = any_record_besides(self.store, environment, gone_after, nodes, &is_missing)?;
        Ok(some == Some(false))
    }

    fn wanted(&self) -> Result<WantedShas, RolloutError> {
        let manifest = self.manifest()?;
        let wanted = self.wanted_in(&manifest, self.app)?;
        Ok(wanted.unwrap_or(WantedShas {
            generation: manifest
                .generation_of(self.context.environment)
                .unwrap_or(0),
            shas: Vec::new(),
            hold: None,
        }))
    }

    fn wanted_of(&self, app: &str) -> Result<Option<WantedShas>, RolloutError> {
        let manifest = self.manifest()?;
        let mut wanted = self.wanted_in(&manifest, app)?;
        let environment = manifest.environments.get(self.context.environment);
        let entry = environment.and_then(|environment| environment.entry(app)?.ok());
        if let (Some(wanted), Some(over)) =
            (&mut wanted, entry.and_then(|e| e.over_sha(self.now())))
        {
            // Nobody takes it any more, so it will never be done.
            wanted.shas.retain(|sha| sha != over);
        }
        Ok(wanted)
    }

    fn nonce(&self) -> Nonce {
        Nonce(random_u64())
    }
}

/// Whether an error says that this host may not write there.
pub(crate) fn is_refusal(error: &RolloutError) -> bool {
    matches!(error, RolloutError::Store(StoreError::Refused { .. }))
}
