//! Whether a store keeps conditional writes, by which hosts and publishers agree with each other, and
//! has the same time as this host.

use std::sync::Barrier;

use jiff::Timestamp;

use super::{Check, bad};
use crate::ports::store::{self, Etag, Fetched, Put, Store, StoreError, StoreSettings, When};

/// How many write at once: few enough to be polite, and enough for a server that checks and writes in
/// two steps to be caught.
const RACERS: usize = 8;

/// A clock that is off by more is told, in seconds. S3 refuses at 900.
const SKEW: i64 = 30;

/// Why conditional writes matter, and that they do not yet matter here.
const ELSEWHERE: &str = "use a store that keeps conditional writes (AWS S3, Ceph): without them two hosts can take one slot and two \
     publishers lose each other's work; hosts that only follow the manifest are not harmed";

const REACH: &str =
    "is the address right, is there a way to it (`curl -v`), and a firewall between?";

/// Whether conditional writes are kept, one after the other and at once: tried with an object `key`,
/// which must not be there, and is not afterwards.
pub fn conditions(settings: &StoreSettings, store: &dyn Store, key: &str) -> Check {
    let about = "store writes";
    let probed = probe(settings, store, key);
    let left = store.delete(key);
    let finding = match probed {
        Ok(None) => Check::good(
            about,
            "conditional writes are kept, also when eight write at once",
        ),
        Ok(Some(ignored)) => bad(about, ignored, ELSEWHERE),
        Err(StoreError::Refused { why, .. }) => bad(
            about,
            format!("this host may not write `{key}`: {why}"),
            "its credentials need s3:PutObject and s3:DeleteObject for what hosts tell each other; following the manifest works without",
        ),
        Err(error) => bad(about, error.to_string(), REACH),
    };
    match (finding.is_bad(), left) {
        (false, Err(error)) => bad(
            about,
            format!("conditional writes are kept, but the probe's object is left: {error}"),
            format!("its credentials need s3:DeleteObject; remove `{key}`"),
        ),
        _ => finding,
    }
}

/// What the store got wrong; `None`: nothing.
fn probe(
    settings: &StoreSettings,
    store: &dyn Store,
    key: &str,
) -> Result<Option<String>, StoreError> {
    let wrong = |what: &str| Ok(Some(what.to_owned()));
    let Put::Written(first) = store.put(key, b"one\n", When::Absent)? else {
        return wrong("it refuses `If-None-Match: *` for an object that is not there");
    };
    if store.put(key, b"two\n", When::Absent)? != Put::Conflict {
        return wrong("it ignores `If-None-Match: *`: an object that is there was overwritten");
    }
    let bogus = Etag("0".repeat(32));
    if store.put(key, b"three\n", When::Matches(&bogus))? != Put::Conflict {
        return wrong("it ignores `If-Match`: a version that never was counted as the current one");
    }
    let Put::Written(second) = store.put(key, b"four\n", When::Matches(&first))? else {
        return wrong("it refuses `If-Match` with the version that is there");
    };
    if store.put(key, b"five\n", When::Matches(&first))? != Put::Conflict {
        return wrong("it ignores `If-Match`: an old version counted as the current one");
    }
    match store.get(key, None)? {
        Fetched::Object(object) if object.body == b"four\n" => {}
        _ => return wrong("what was written cannot be read back at once"),
    }
    if store.get(key, Some(&second))? != Fetched::Unchanged {
        return wrong("it does not know an object again by its version");
    }
    store.delete(key)?;
    if store.get(key, None)? != Fetched::Missing {
        return wrong("a removed object is still there");
    }
    let won = race(settings, key, When::Absent)?;
    if won != 1 {
        return Ok(Some(format!(
            "`If-None-Match: *` is not kept when {RACERS} write at once: {won} of them were told that theirs is there"
        )));
    }
    let Fetched::Object(object) = store.get(key, None)? else {
        return wrong("what was written cannot be read back at once");
    };
    match race(settings, key, When::Matches(&object.etag))? {
        1 => Ok(None),
        won => Ok(Some(format!(
            "`If-Match` is not kept when {RACERS} write at once: {won} of them were told that theirs is there"
        ))),
    }
}

/// How many of some that write at once are told that they did.
fn race(settings: &StoreSettings, key: &str, when: When<'_>) -> Result<usize, StoreError> {
    let ready = Barrier::new(RACERS);
    let results = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..RACERS)
            .map(|racer| {
                let ready = &ready;
                scope.spawn(move || {
                    // Each on a connection of its own, which is there when all begin.
                    let store = store::open(settings);
                    let warm = store.as_ref().map(|store| store.get(key, None));
                    drop(warm);
                    ready.wait();
                    // Never what is there already: equal content may be an equal version.
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
        won += usize::from(matches!(result?, Put::Written(_)));
    }
    Ok(won)
}

/// Whether the store has the same time as the host: `theirs` in whole seconds, as an answer told it that
/// came between `before` and `after`.
pub(super) fn clock(theirs: Timestamp, before: Timestamp, after: Timestamp) -> Check {
    let half = after.duration_since(before) / 2;
    let here = before + half;
    let off = here.duration_since(theirs);
    let seconds = off.as_secs();
    if seconds.abs() < SKEW {
        return Check::good("clock", "the same as the store's");
    }
    let way = if seconds > 0 { "ahead of" } else { "behind" };
    bad(
        "clock",
        format!("this host's clock is {} s {way} the store's", seconds.abs()),
        "`timedatectl` shows whether it is kept by a time server; S3 refuses requests that are off by more than 900 s",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_time_of_an_answer_is_compared_with_the_middle_of_its_wait() {
        let theirs = at("2026-11-21T05:00:10Z");
        let found = |before, after| clock(theirs, at(before), at(after));
        assert!(!found("2026-11-21T04:59:50Z", "2026-11-21T05:00:30Z").is_bad());
        let ahead = found("2026-11-21T06:00:10Z", "2026-11-21T06:00:11Z");
        assert!(ahead.is_bad());
        assert!(ahead.message().contains("3600 s ahead of"), "{ahead:?}");
        let behind = found("2026-11-21T04:59:10Z", "2026-11-21T04:59:10Z");
        assert!(behind.message().contains("60 s behind"), "{behind:?}");
    }

    #[test]
    fn a_store_that_keeps_its_conditions_is_found_well_and_left_empty() {
        let dir = tempfile::tempdir().unwrap();
        let settings = StoreSettings {
            url: format!("dir:{}", dir.path().display()),
            region: None,
            endpoint: None,
            path_style: false,
        };
        let store = store::open(&settings).unwrap();
        for _ in 0..20 {
            let check = conditions(&settings, store.as_ref(), "doctor/here-1");
            assert!(!check.is_bad(), "{check:?}");
        }
        assert!(store.list("").unwrap().is_empty());
    }
}
