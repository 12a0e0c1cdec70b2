//! Whether this host may write what rollouts need, and the store honours the conditions of writes. The policy of a bucket
//! that was made for an earlier trueup may allow a host its node record only; then no host could ever take a slot.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::count::has_passed;
use crate::digest::digest;
use crate::ports::RUN_DIR;
use crate::ports::root::Root;
use crate::ports::state::Document;
use crate::ports::store::{Etag, PutOutcome, Store, StoreError, WriteCondition};

/// The folders of the store that rollouts write to.
const FOLDERS: [&str; 5] = ["rollouts", "slots", "quarantine", "once", "at"];

/// The names of the results on this host.
const ACCESS: &str = "access";
const REFUSAL: &str = "refusal";

const VERSION: u32 = 1;
const DOCUMENT: Document = Document::new(VERSION, 4096).compact();

/// The last probe showed that all is well (`/run/trueup/rollout-*.json`).
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Access {
    version: u32,
    /// Digest of the store and the environment.
    scope: String,
}

/// The last probe was refused (`/run/trueup/rollout-refusal.json`).
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Refusal {
    version: u32,
    scope: String,
    /// By this host's own clock.
    at: Timestamp,
}

/// What a host needs to read, write and list, for people.
pub(crate) fn rollout_folders(environment: &str) -> String {
    FOLDERS
        .map(|folder| format!("`{folder}/{environment}/*`"))
        .join(", ")
}

/// Whether this host may write there. Probes with one object for each folder and environment, which all hosts share,
/// until it may; not again before the next boot. An error says nothing about the permission.
pub(crate) fn may_take_part(
    root: &Root,
    store: &dyn Store,
    environment: &str,
) -> Result<bool, StoreError> {
    once_per_boot(Some(root), ACCESS, store, environment, || {
        for folder in FOLDERS {
            let key = format!("{folder}/{environment}/_probe");
            match store.put(&key, b"", WriteCondition::Always) {
                Ok(_) => {}
                Err(StoreError::Refused { .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    })
}

/// Whether this host may take slots now, in a store where that keeps others from it. For people: what was good since the
/// boot may be no more.
pub(crate) fn may_take_slots(store: &dyn Store, environment: &str) -> Result<bool, StoreError> {
    let is_good = honours_conditions(None, store, environment);
    let read = is_good.and_then(|is_good| {
        store.get(&slots_probe(environment), None)?;
        Ok(is_good)
    });
    match read {
        Err(StoreError::Refused { .. }) => Ok(false),
        other => other,
    }
}

fn slots_probe(environment: &str) -> String {
    format!("slots/{environment}/_probe")
}

/// The same, for each pass: a host that was refused does not ask again before `retry_after`.
pub(crate) fn may_take_part_lately(
    root: &Root,
    store: &dyn Store,
    environment: &str,
    (now, retry_after): (Timestamp, Duration),
) -> Result<bool, StoreError> {
    let (path, scope) = (result_path(REFUSAL), scope(store, environment));
    let known: Option<Refusal> = DOCUMENT.load_cache(root, &path);
    let is_refused =
        known.is_some_and(|known| known.scope == scope && !has_passed(retry_after, known.at, now));
    if is_refused && !is_known_good(root, ACCESS, &scope) {
        return Ok(false);
    }
    let may_take_part = may_take_part(root, store, environment)?;
    if !may_take_part {
        let refusal = Refusal {
            version: VERSION,
            scope,
            at: now,
        };
        if let Err(error) = DOCUMENT.save(root, &path, &refusal) {
            tracing::debug!(%error, "the store is probed again");
        }
    }
    Ok(may_take_part)
}

/// A write was refused, so the next probe finds out what this host may do now.
pub(super) fn forget_access(root: &Root) {
    forget(root, ACCESS);
}

/// This host was granted permission, for which it wrote: the next probe finds out whether it may write everything.
pub(super) fn forget_refusal(root: &Root) {
    forget(root, REFUSAL);
}

fn forget(root: &Root, name: &str) {
    if let Err(error) = root.remove_file(&result_path(name)) {
        tracing::debug!(%error, "an old probe of the store stays in force");
    }
}

/// Whether the store honours conditional writes, without which two hosts would take one slot. Asks with an object that all
/// hosts share, and a host (which has a `root`) not again before its next boot.
pub(super) fn honours_conditions(
    root: Option<&Root>,
    store: &dyn Store,
    environment: &str,
) -> Result<bool, StoreError> {
    once_per_boot(root, "conditions", store, environment, || {
        let key = slots_probe(environment);
        store.put(&key, b"", WriteCondition::Always)?;
        let condition = WriteCondition::Matches(&Etag::nonexistent());
        Ok(store.put(&key, b"", condition)? == PutOutcome::Conflict)
    })
}

fn result_path(name: &str) -> PathBuf {
    Path::new(RUN_DIR).join(format!("rollout-{name}.json"))
}

fn scope(store: &dyn Store, environment: &str) -> String {
    digest(format!("{}\n{environment}", store.address()).as_bytes())
}

/// Whether a probe was good since the boot.
fn is_known_good(root: &Root, name: &str, scope: &str) -> bool {
    let known: Option<Access> = DOCUMENT.load_cache(root, &result_path(name));
    known.is_some_and(|known| known.scope == scope)
}

/// The result of a probe of the store, which is not repeated before the next boot once it was good.
fn once_per_boot(
    root: Option<&Root>,
    name: &str,
    store: &dyn Store,
    environment: &str,
    probe: impl FnOnce() -> Result<bool, StoreError>,
) -> Result<bool, StoreError> {
    let scope = scope(store, environment);
    if root.is_some_and(|root| is_known_good(root, name, &scope)) {
        return Ok(true);
    }
    let is_good = probe()?;
    if is_good && let Some(root) = root {
        let access = Access {
            version: VERSION,
            scope,
        };
        if let Err(error) = DOCUMENT.save(root, &result_path(name), &access) {
            tracing::debug!(%error, "the store is probed again");
        }
    }
    Ok(is_good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::store::MemoryStore;
    use crate::ports::store::double::StoreDouble;
    use crate::ports::testing::Sandbox;

    /// A store that ignores the conditions of writes.
    struct UnconditionalStore(MemoryStore);

    impl StoreDouble for UnconditionalStore {
        fn inner(&self) -> &dyn Store {
            &self.0
        }
        fn address(&self) -> &str {
            "s3://b"
        }
        fn put(
            &self,
            key: &str,
            body: &[u8],
            _: WriteCondition<'_>,
        ) -> Result<PutOutcome, StoreError> {
            self.0.put(key, body, WriteCondition::Always)
        }
    }

    #[test]
    fn store_that_ignores_conditions_is_found_out_at_each_write() {
        let sandbox = Sandbox::empty();
        let root = Some(&*sandbox.host.root);
        let bad = UnconditionalStore(MemoryStore::new());
        for _ in 0..2 {
            assert!(!honours_conditions(root, &bad, "production").unwrap());
        }
        let good = MemoryStore::new();
        assert!(honours_conditions(root, &good, "production").unwrap());
        good.delete("slots/production/_probe").unwrap();
        assert!(honours_conditions(root, &good, "production").unwrap());
        assert_eq!(good.list("").unwrap(), [], "it probed another time");
        assert!(honours_conditions(None, &good, "production").unwrap());
    }

    #[test]
    fn store_is_probed_once_for_each_environment() {
        let (sandbox, store) = (Sandbox::empty(), MemoryStore::new());
        for environment in ["production", "production", "staging"] {
            assert!(may_take_part(&sandbox.host.root, &store, environment).unwrap());
        }
        let keys = store.list("").unwrap().into_iter().map(|object| object.key);
        let keys: Vec<String> = keys.collect();
        assert_eq!(keys.len(), 2 * FOLDERS.len(), "{keys:?}");
        for folder in FOLDERS {
            store
                .delete(&format!("{folder}/production/_probe"))
                .unwrap();
        }
        assert!(may_take_part(&sandbox.host.root, &store, "staging").unwrap());
        let left = store.list("slots/production/").unwrap();
        assert_eq!(left, [], "it probed another time");
    }
}
