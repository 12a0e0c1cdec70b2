//! Checks that a store honours conditional writes, by which hosts and publishers coordinate, and that its
//! clock agrees with the host's.

use std::sync::Barrier;

use jiff::Timestamp;

use super::{ABOUT_WRITES as ABOUT, Check, bad, bad_store};
use crate::ports::store::{
    self, Etag, GetOutcome, PutOutcome, Store, StoreError, StoreSettings, WriteCondition,
};
use crate::problem::Problem;

/// Number of concurrent writers: few enough not to strain the server, and enough to catch one that checks and
/// writes in two steps.
const CONCURRENT_WRITERS: usize = 8;

/// Reported clock skew, in seconds. S3 refuses requests that are off by 900 s.
const MAX_SKEW_SECONDS: i64 = 30;

/// Why conditional writes matter.
const UNSAFE_STORE_HINT: &str = "use a store that supports conditional writes (AWS S3, Ceph): without them two publishers can overwrite each other, \
     and hosts refuse to take up a new sha one after the other: they wait, unless the manifest says `rollout: none`";

/// The store under test and the objects to test with.
pub(crate) struct Probe<'a> {
    pub settings: &'a StoreSettings,
    pub store: &'a dyn Store,
    /// The probe's own object: always the same for a host, so that each run removes what a killed `doctor`
    /// left.
    pub key: &'a str,
    /// The host's own record, which the check leaves unchanged.
    pub record: &'a str,
}

/// Checks that the store honours conditional writes, sequentially and concurrently, with an object that is
/// removed afterwards.
pub(crate) fn check_conditional_writes(probe: &Probe<'_>) -> Check {
    let (about, key) = (ABOUT, probe.key);
    // Before any write, to find out whether this host may delete the object at all.
    let deleted = probe.store.delete(key);
    let probed = deleted.and_then(|()| find_violation(probe));
    if let Err(StoreError::Refused { why, .. }) = probed {
        // Removes what was written so far, if the store allows it.
        let _ = probe.store.delete(key);
        return check_record_write(probe, &why);
    }
    let removed = probe.store.delete(key);
    let check = match probed {
        Ok(None) => Check::good(
            about,
            "conditional writes work, also with eight concurrent writers",
        ),
        Ok(Some(ignored)) => bad(about, ignored, UNSAFE_STORE_HINT),
        Err(error) => bad_store(about, &error),
    };
    match (check.is_bad(), removed) {
        (false, Err(error)) => bad(
            about,
            format!("conditional writes work, but the probe's object was not removed: {error}"),
            format!("remove `{key}`, or run `trueup doctor` again, which removes it too"),
        ),
        _ => check,
    }
}

/// The host may not write the probe's object. That is harmless, because it only has to write its record.
fn check_record_write(probe: &Probe<'_>, why: &str) -> Check {
    let Probe {
        store, record, key, ..
    } = probe;
    match can_write(*store, record) {
        Ok(true) => Check::note(
            ABOUT,
            Problem::new(format!(
                "this host may write its record; conditional writes were not tested, because the store refuses `{key}`: {why}"
            ))
            .hint("the test needs s3:PutObject and s3:DeleteObject for `doctor/`"),
        ),
        Ok(false) => bad(
            ABOUT,
            format!("the store ignores `If-Match` for `{record}`: it accepted a version that never existed"),
            UNSAFE_STORE_HINT,
        ),
        Err(StoreError::Refused { why, .. }) => bad(
            ABOUT,
            format!("this host may not write its record `{record}`: {why}"),
            "allow s3:PutObject for `nodes/`, or set `fleet: {publish: false}`: then peers and `trueup fleet` do not see this host, and it still follows the manifest",
        ),
        Err(error) => bad_store(ABOUT, &error),
    }
}

/// Whether the host may write this object. Writes with a version that never existed, so that a store that
/// honours conditions writes nothing. `false`: this store does not honour them.
fn can_write(store: &dyn Store, key: &str) -> Result<bool, StoreError> {
    // The current content, in case the store writes it after all.
    let current = match store.get(key, None) {
        Ok(GetOutcome::Object(object)) => Some(object.body),
        // S3 answers 403 instead of 404 to clients without list permission.
        Ok(_) | Err(StoreError::Refused { .. }) => None,
        Err(error) => return Err(error),
    };
    let body = current.as_deref().unwrap_or(b"{}\n");
    let is_honoured = store.put(key, body, WriteCondition::Matches(&Etag::nonexistent()))?
        == PutOutcome::Conflict;
    if !is_honoured && current.is_none() {
        store.delete(key)?;
    }
    Ok(is_honoured)
}

/// The first violation of the store; `None`: none.
fn find_violation(probe: &Probe<'_>) -> Result<Option<String>, StoreError> {
    let Probe {
        settings,
        store,
        key,
        ..
    } = *probe;
    let violation = |message: &str| Ok(Some(message.to_owned()));
    let PutOutcome::Written(first) = store.put(key, b"one\n", WriteCondition::Absent)? else {
        return violation("it refuses `If-None-Match: *` for an object that does not exist");
    };
    if store.put(key, b"two\n", WriteCondition::Absent)? != PutOutcome::Conflict {
        return violation("it ignores `If-None-Match: *`: it overwrote an existing object");
    }
    if store.put(
        key,
        b"three\n",
        WriteCondition::Matches(&Etag::nonexistent()),
    )? != PutOutcome::Conflict
    {
        return violation("it ignores `If-Match`: it accepted a version that never existed");
    }
    let PutOutcome::Written(second) = store.put(key, b"four\n", WriteCondition::Matches(&first))?
    else {
        return violation("it refuses `If-Match` with the current version");
    };
    if store.put(key, b"five\n", WriteCondition::Matches(&first))? != PutOutcome::Conflict {
        return violation("it ignores `If-Match`: it accepted an old version");
    }
    match store.get(key, None)? {
        GetOutcome::Object(object) if object.body == b"four\n" => {}
        _ => return violation("a written object cannot be read back at once"),
    }
    if store.get(key, Some(&second))? != GetOutcome::Unchanged {
        return violation("it does not recognise the version of an unchanged object");
    }
    store.delete(key)?;
    if store.get(key, None)? != GetOutcome::Missing {
        return violation("a removed object still exists");
    }
    let won = race_writes(settings, key, WriteCondition::Absent)?;
    if won != 1 {
        return Ok(Some(format!(
            "`If-None-Match: *` fails with {CONCURRENT_WRITERS} concurrent writers: it accepted {won} of them"
        )));
    }
    let GetOutcome::Object(object) = store.get(key, None)? else {
        return violation("a written object cannot be read back at once");
    };
    match race_writes(settings, key, WriteCondition::Matches(&object.etag))? {
        1 => Ok(None),
        won => Ok(Some(format!(
            "`If-Match` fails with {CONCURRENT_WRITERS} concurrent writers: it accepted {won} of them"
        ))),
    }
}

/// Number of concurrent writers whose write the store confirmed.
fn race_writes(
    settings: &StoreSettings,
    key: &str,
    when: WriteCondition<'_>,
) -> Result<usize, StoreError> {
    let ready = Barrier::new(CONCURRENT_WRITERS);
    let results = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..CONCURRENT_WRITERS)
            .map(|racer| {
                let ready = &ready;
                scope.spawn(move || {
                    // Each writer opens its own connection before the race starts.
                    let store = store::open(settings);
                    let warm = store.as_ref().map(|store| store.get(key, None));
                    drop(warm);
                    ready.wait();
                    // Each body is unique: equal content may have an equal ETag.
                    let body = format!("racer {racer} when {when:?}\n");
                    store.and_then(|store| store.put(key, body.as_bytes(), when))
                })
            })
            .collect();
        let joined = racers.into_iter().map(|racer| {
            racer.join().unwrap_or_else(|_| {
                Err(StoreError::Settings(
                    "a probe of the store ended early".into(),
                ))
            })
        });
        joined.collect::<Vec<_>>()
    });
    let mut won = 0;
    for result in results {
        won += usize::from(matches!(result?, PutOutcome::Written(_)));
    }
    Ok(won)
}

/// Compares the store's clock with the host's: `theirs`, in whole seconds, comes from a response received
/// between `before` and `after`.
pub(super) fn check_clock(server_time: Timestamp, before: Timestamp, after: Timestamp) -> Check {
    let half = after.duration_since(before) / 2;
    let here = before + half;
    let off = here.duration_since(server_time);
    let seconds = off.as_secs();
    if seconds.abs() < MAX_SKEW_SECONDS {
        return Check::good("clock", "the same as the store's");
    }
    let way = if seconds > 0 { "ahead of" } else { "behind" };
    bad(
        "clock",
        format!("this host's clock is {} s {way} the store's", seconds.abs()),
        "`timedatectl` shows whether a time server sets it; S3 refuses requests that are off by more than 900 s",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::ports::store::MemoryStore;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn clock_is_compared_at_the_midpoint_of_the_request() {
        let server_time = at("2026-11-21T05:00:10Z");
        let check = |before, after| check_clock(server_time, at(before), at(after));
        assert!(!check("2026-11-21T04:59:50Z", "2026-11-21T05:00:30Z").is_bad());
        let ahead = check("2026-11-21T06:00:10Z", "2026-11-21T06:00:11Z");
        assert!(ahead.is_bad());
        assert!(ahead.message().contains("3600 s ahead of"), "{ahead:?}");
        let behind = check("2026-11-21T04:59:10Z", "2026-11-21T04:59:10Z");
        assert!(behind.message().contains("60 s behind"), "{behind:?}");
    }

    /// An in-memory store that denies writes below some prefixes, and all deletions.
    struct DenyingStore {
        memory: MemoryStore,
        prefixes: &'static [&'static str],
        honours_conditions: bool,
    }

    impl DenyingStore {
        fn check_access(&self, key: &str) -> Result<(), StoreError> {
            match self.prefixes.iter().any(|prefix| key.starts_with(prefix)) {
                true => Err(StoreError::Refused {
                    store: "s3://b".into(),
                    key: key.into(),
                    why: "403 AccessDenied".into(),
                    hint: "as the test says",
                }),
                false => Ok(()),
            }
        }
    }

    impl store::double::StoreDouble for DenyingStore {
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
            self.check_access(key)?;
            let when = if self.honours_conditions {
                when
            } else {
                WriteCondition::Always
            };
            self.memory.put(key, body, when)
        }
        fn delete(&self, key: &str) -> Result<(), StoreError> {
            self.check_access(key)?;
            self.memory.delete(key)
        }
    }

    const RECORD: &str = "nodes/production/web1.json";

    fn check_with_denied(prefixes: &'static [&'static str], keeps: bool) -> (Check, Vec<String>) {
        let store = DenyingStore {
            memory: MemoryStore::new(),
            prefixes,
            honours_conditions: keeps,
        };
        let settings = StoreSettings {
            url: "s3://b".into(),
            region: None,
            endpoint: None,
            path_style: false,
        };
        let check = check_conditional_writes(&Probe {
            settings: &settings,
            store: &store,
            key: "doctor/production/web1",
            record: RECORD,
        });
        let left = store.memory.list("").unwrap();
        (check, left.into_iter().map(|row| row.key).collect())
    }

    #[test]
    fn denied_probe_is_a_note_while_the_record_is_writable() {
        let (check, left) = check_with_denied(&["doctor/"], true);
        assert!(matches!(check.verdict, Verdict::Note(_)), "{check:?}");
        assert!(check.message().contains("403"), "{check:?}");
        assert_eq!(left, [""; 0]);
    }

    #[test]
    fn denied_record_names_the_permission_or_setting_to_change() {
        let (check, left) = check_with_denied(&["doctor/", "nodes/"], true);
        let Verdict::Bad(problem) = &check.verdict else {
            panic!("{check:?}");
        };
        assert!(problem.message.contains(RECORD), "{problem}");
        let hint = problem.hint.as_ref().unwrap();
        assert!(
            hint.contains("`nodes/`") && hint.contains("publish: false"),
            "{hint}"
        );
        assert_eq!(left, [""; 0]);
        let (check, left) = check_with_denied(&["doctor/"], false);
        assert!(check.is_bad() && left.is_empty(), "{check:?}, {left:?}");
    }

    #[test]
    fn conforming_store_passes_and_is_left_empty() {
        let dir = tempfile::tempdir().unwrap();
        let settings = StoreSettings {
            url: format!("dir:{}", dir.path().display()),
            region: None,
            endpoint: None,
            path_style: false,
        };
        let store = store::open(&settings).unwrap();
        let key = "doctor/production/here";
        for _ in 0..20 {
            // Left by a killed `doctor`.
            store.put(key, b"four\n", WriteCondition::Always).unwrap();
            let check = check_conditional_writes(&Probe {
                settings: &settings,
                store: store.as_ref(),
                key,
                record: RECORD,
            });
            assert!(matches!(check.verdict, Verdict::Good { .. }), "{check:?}");
        }
        assert!(store.list("").unwrap().is_empty());
    }
}
