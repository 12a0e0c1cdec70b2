//! Since when this host hears the store.
//!
//! Whoever was cut off from the store, or off, for longer than `gone_after` finds all records too old
//! when it is back, and those that are written first would be all there are. So silence counts only over
//! a time in which this host itself had answers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::digest;
use crate::ports::root::{Attrs, RootError};
use crate::ports::{Host, RUN};

const VERSION: u32 = 1;

/// How wide the note is, in bytes: more than any is long.
const NOTE: usize = 256;

/// So long a time between two looks is no gap by itself: passes come every half a minute.
const PAUSE: Duration = Duration::from_secs(120);

/// Noted at every look (`/run/trueup/contact.json`: memory, and gone after a reboot, as the time was in
/// which nothing was heard).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Contact {
    version: u32,
    /// The store and environment that were looked at.
    whose: String,
    /// Since when looks are answered, and when the last one was; by the store's clock.
    since: Timestamp,
    last: Timestamp,
    /// A look since then had no answer.
    cut: bool,
}

impl Contact {
    /// What was noted last, if it is of this store and environment.
    pub fn load(host: &Host, store: &str, environment: &str) -> Option<Contact> {
        let body = host.root.read(&Contact::path(), 16 * NOTE).ok()??;
        let known: Contact = serde_json::from_slice(&body).ok()?;
        let same = known.version == VERSION && known.whose == whose(store, environment);
        same.then_some(known)
    }

    /// There is an answer. `now`: the store's time.
    pub fn answered(
        before: Option<Contact>,
        (store, environment): (&str, &str),
        now: Timestamp,
        gone_after: Duration,
    ) -> Contact {
        // After a gap of a third, a host that lives has had most of the time to be heard of.
        let third = gone_after / 3;
        let goes_on = |before: &Contact| {
            let gap = Duration::try_from(now.duration_since(before.last));
            let most = if before.cut { third } else { third.max(PAUSE) };
            gap.is_ok_and(|gap| gap <= most)
        };
        let since = before.filter(goes_on).map_or(now, |before| before.since);
        Contact {
            version: VERSION,
            whose: whose(store, environment),
            since,
            last: now,
            cut: false,
        }
    }

    /// There was no answer.
    pub fn lost(self) -> Contact {
        Contact { cut: true, ..self }
    }

    /// For how long looks have been answered.
    pub fn lasts(&self) -> Duration {
        Duration::try_from(self.last.duration_since(self.since)).unwrap_or_default()
    }

    pub fn note(&self, host: &Host) -> Result<(), RootError> {
        let body = serde_json::to_vec(self).expect("plain data is always JSON");
        host.root.make_dirs(Path::new(RUN), &Attrs::mode(0o755))?;
        host.root.note(&Contact::path(), &body, NOTE)
    }

    fn path() -> PathBuf {
        Path::new(RUN).join("contact.json")
    }
}

/// Of one length, whatever they are called: a note is written over the one before.
fn whose(store: &str, environment: &str) -> String {
    digest(format!("{store}\n{environment}").as_bytes())
}
