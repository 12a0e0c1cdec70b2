//! How the channels of this host do: one that fails is tried less and less often, and `status` and `doctor` show it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ports::STATE_DIR;
use crate::ports::root::{Root, RootError};
use crate::ports::state::Document;
use crate::problem::Problem;

const VERSION: u32 = 1;
const DOCUMENT: Document = Document::new(VERSION, 64 << 10);

/// How long a channel rests after its first failure; it doubles with each.
const FIRST_REST: SignedDuration = SignedDuration::from_mins(1);
const LONGEST_REST: SignedDuration = SignedDuration::from_mins(30);

/// After so many failures in a row a channel does not work.
const MAX_FAILURES: u32 = 3;

/// Messages of one channel and host in an hour: whoever writes in the store could make many.
const MAX_PER_HOUR: u32 = 60;

/// The channels of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChannelHealth {
    version: u32,
    channels: BTreeMap<String, Record>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// In a row.
    failures: u32,
    failed: Option<Timestamp>,
    why: Option<String>,
    /// The beginning of the hour in which messages are counted.
    hour: Option<Timestamp>,
    messages: u32,
}

impl ChannelHealth {
    pub(crate) fn load(root: &Root) -> ChannelHealth {
        DOCUMENT.load_cache(root, &path()).unwrap_or(ChannelHealth {
            version: VERSION,
            channels: BTreeMap::new(),
        })
    }

    pub(crate) fn save(&self, root: &Root) -> Result<(), RootError> {
        DOCUMENT.save(root, &path(), self)
    }

    /// How long a channel still rests; `None`: it may be used.
    pub(crate) fn rest(&self, channel: &str, now: Timestamp) -> Option<SignedDuration> {
        let record = self.channels.get(channel)?;
        let doubled = 2_i32.saturating_pow(record.failures.saturating_sub(1).min(10));
        let rest = (FIRST_REST * doubled).min(LONGEST_REST);
        let after_failure = record.failed.map(|failed| (failed, rest));
        let is_full = record.messages >= MAX_PER_HOUR;
        let after_many = record.hour.filter(|_| is_full);
        let after_many = after_many.map(|hour| (hour, SignedDuration::from_hours(1)));
        let left = [after_failure, after_many].into_iter().flatten();
        let left = left.map(|(since, rest)| rest - now.duration_since(since));
        // A clock that was set back lets nothing rest for ever.
        left.filter(|left| left.is_positive() && *left <= SignedDuration::from_hours(1))
            .max()
    }

    /// Records how a delivery ended.
    pub(crate) fn record(&mut self, channel: &str, result: Result<(), &str>, now: Timestamp) {
        let record = self.channels.entry(channel.to_owned()).or_default();
        let is_over = record.hour.is_none_or(|hour| {
            let passed = now.duration_since(hour);
            passed.is_negative() || passed >= SignedDuration::from_hours(1)
        });
        if is_over {
            (record.hour, record.messages) = (Some(now), 0);
        }
        record.messages = record.messages.saturating_add(1);
        match result {
            Ok(()) => (record.failures, record.failed, record.why) = (0, None, None),
            Err(why) => {
                record.failures = record.failures.saturating_add(1);
                record.failed = Some(now);
                record.why = Some(why.to_owned());
            }
        }
    }

    /// The channels that do not work.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = Problem> {
        let broken = self
            .channels
            .iter()
            .filter(|(_, record)| record.failures >= MAX_FAILURES);
        broken.map(|(name, record)| {
            let why = record.why.as_deref().unwrap_or("it failed");
            let times = record.failures;
            Problem::new(format!(
                "the channel {name} failed {times} times in a row: {why}"
            ))
            .hint(format!("`trueup notify test {name}` tries it"))
        })
    }

    /// How often a channel failed last, and why.
    pub(crate) fn failure(&self, channel: &str) -> Option<(u32, &str)> {
        let record = self.channels.get(channel)?;
        let why = record.why.as_deref()?;
        (record.failures > 0).then_some((record.failures, why))
    }
}

/// No app has this name.
fn path() -> PathBuf {
    PathBuf::from(STATE_DIR).join("notices/_channels.json")
}
