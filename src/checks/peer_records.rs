//! Checks whether this host may write other hosts' records: an attacker who becomes root on it could then
//! redirect the traffic of any app to himself.

use super::{ABOUT_WRITES as ABOUT, Check};
use crate::ports::store::{Etag, GetOutcome, PutOutcome, Store, StoreError, WriteCondition};
use crate::problem::Problem;

/// Attempts a write of another host's record with a version that never existed, so that it cannot succeed.
/// Only for a store that is known to honour conditional writes; if it does not after all, the write repeats
/// the current content. `None`: there is no other record, or the answer is inconclusive.
///
/// A store checks the permission before the condition, so the two kinds of refusal tell which one failed.
pub(super) fn check_peer_records(store: &dyn Store, folder: &str, record: &str) -> Option<Check> {
    let listed = store.list(folder).ok()?;
    let stem = record.strip_suffix(".json").unwrap_or(record);
    let is_other = |key: &str| {
        let rest = key.strip_prefix(stem);
        !rest.is_some_and(|rest| rest.starts_with('@') || rest == ".json")
    };
    let other = listed
        .into_iter()
        .map(|row| row.key)
        .find(|key| is_other(key))?;
    let Ok(GetOutcome::Object(object)) = store.get(&other, None) else {
        return None;
    };
    match store.put(&other, &object.body, WriteCondition::Matches(&Etag::nonexistent())) {
        Ok(PutOutcome::Conflict) => Some(Check::note(
            ABOUT,
            Problem::new(format!(
                "this host may write the records of others (tried `{other}`, without changing it): root on one host could redirect visitors of every app to it"
            ))
            .hint("give each host a key of its own that may write its own record only; docs/fleet.md has the policy"),
        )),
        Err(StoreError::Refused { .. }) => Some(Check::good(
            ABOUT,
            format!("this host may not write the records of others (tried `{other}`)"),
        )),
        // The store honoured conditions a moment ago: the result is inconclusive, and nothing was changed.
        Ok(PutOutcome::Written(_)) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::ports::store::{MemoryStore, double};

    /// A store whose policy lets a host write only some keys.
    struct PolicyStore {
        memory: MemoryStore,
        may_write: fn(&str) -> bool,
    }

    impl double::StoreDouble for PolicyStore {
        fn inner(&self) -> &dyn Store {
            &self.memory
        }
        fn address(&self) -> &str {
            "s3://b"
        }
        fn put(
            &self,
            key: &str,
            body: &[u8],
            when: WriteCondition<'_>,
        ) -> Result<PutOutcome, StoreError> {
            if !(self.may_write)(key) {
                return Err(StoreError::Refused {
                    store: "s3://b".into(),
                    key: key.into(),
                    why: "403 AccessDenied".into(),
                    hint: "as the test says",
                });
            }
            self.memory.put(key, body, when)
        }
    }

    const OWN: &str = "nodes/production/web1.json";

    fn check_with(keys: &[&str], may_write: fn(&str) -> bool) -> Option<Check> {
        let memory = MemoryStore::new();
        for key in keys {
            memory
                .put(key, key.as_bytes(), WriteCondition::Always)
                .unwrap();
        }
        let before = memory.list("").unwrap();
        let store = PolicyStore { memory, may_write };
        let check = check_peer_records(&store, "nodes/production/", OWN);
        assert_eq!(
            store.memory.list("").unwrap(),
            before,
            "something was written"
        );
        check
    }

    #[test]
    fn writable_peer_records_are_reported() {
        let keys = [
            OWN,
            "nodes/production/web1@1234.json",
            "nodes/production/web2.json",
        ];
        let check = check_with(&keys, |_| true).unwrap();
        let Verdict::Note(problem) = &check.verdict else {
            panic!("{check:?}");
        };
        assert!(
            problem.message.contains("nodes/production/web2.json"),
            "{problem}"
        );
        let check = check_with(&keys, |key| key == OWN).unwrap();
        assert!(matches!(check.verdict, Verdict::Good { .. }), "{check:?}");
    }

    #[test]
    fn host_without_peers_has_no_peer_record_check() {
        let beside = "nodes/production/web1@1234.json";
        assert!(check_with(&[OWN, beside], |_| true).is_none());
        assert!(check_with(&[], |_| true).is_none());
        assert!(check_with(&[OWN, "nodes/production/web10.json"], |_| true).is_some());
    }
}
