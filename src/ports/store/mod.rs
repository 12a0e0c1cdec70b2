//! The store port: the object store that hosts, CI and operators share.
//!
//! trueup needs only five operations of a store. All agreement in the fleet builds on a conditional read and
//! a compare-and-swap write, so a backend that gets either wrong is worse than none: every backend must pass
//! the suite in `conformance.rs`.

#[cfg(feature = "s3")]
mod aws_profile;
mod budget;
#[cfg(test)]
mod conformance;
mod dir;
#[cfg(test)]
pub(crate) mod double;
#[cfg(test)]
mod memory;
#[cfg(not(feature = "s3"))]
mod no_aws_profile;
#[cfg(feature = "s3")]
mod s3;
mod settings;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::digest;

#[cfg(feature = "s3")]
pub(crate) use aws_profile::default_profile_values;
pub(crate) use budget::Budget;
pub(crate) use dir::DirStore;
#[cfg(test)]
pub(crate) use memory::MemoryStore;
#[cfg(not(feature = "s3"))]
pub(crate) use no_aws_profile::default_profile_values;
#[cfg(feature = "s3")]
pub(crate) use s3::{S3Settings, S3Store};
pub(crate) use settings::{StoreSettings, open};

/// The version of an object, opaque: only compared for equality or sent back to its store. Without the quotes
/// that S3 wraps it in, because some servers only match it unquoted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Etag(pub String);

impl Etag {
    /// A version that no object ever had.
    pub(crate) fn nonexistent() -> Etag {
        Etag("0".repeat(32))
    }
}

/// The result of [`Store::get`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GetOutcome {
    /// The object is still at the version that the caller knows. Nothing was transferred.
    Unchanged,
    /// There is no such object.
    Missing,
    Object(Object),
}

/// An object at one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    pub body: Vec<u8>,
    pub etag: Etag,
    /// By the store's own clock.
    pub modified: Timestamp,
}

/// When [`Store::put`] may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteCondition<'a> {
    Always,
    /// Only if there is no such object yet.
    Absent,
    /// Only if the object is still at this version.
    Matches(&'a Etag),
}

/// The result of [`Store::put`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PutOutcome {
    Written(Etag),
    /// The condition did not hold; nothing was written.
    Conflict,
}

/// One row of [`Store::list`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObjectMeta {
    /// The whole key, relative to the store's prefix.
    pub key: String,
    pub etag: Etag,
    /// By the store's own clock.
    pub modified: Timestamp,
    /// In bytes.
    pub size: u64,
}

/// Why an operation of a store failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Not reached, timed out, or temporarily unable to serve: the same call may succeed later.
    #[error("the store {store} cannot be reached: {why}")]
    Unreachable {
        store: String,
        why: String,
        hint: &'static str,
    },
    /// Reached, but it refused: wrong credentials, permissions, no such bucket, a forbidden key.
    #[error("the store {store} refused `{key}`: {why}")]
    Refused {
        store: String,
        key: String,
        why: String,
        hint: &'static str,
    },
    /// No request was sent, for want of credentials to sign it.
    #[cfg_attr(
        not(feature = "s3"),
        expect(dead_code, reason = "only S3 asks for credentials")
    )]
    #[error(
        "there are no AWS credentials on this host, so the store {store} was not asked (looked in {why})"
    )]
    NoCredentials {
        store: String,
        /// Each source, and why it has none.
        why: String,
        hint: &'static str,
    },
    /// The object is larger than the caller's limit.
    #[error("{store}/{key} is larger than {limit} bytes")]
    TooLarge {
        store: String,
        key: String,
        limit: usize,
    },
    /// There are more objects than any intended use has, and more than a pass may cost.
    #[error("{store}/{prefix} holds {what}")]
    ListTooLarge {
        store: String,
        prefix: String,
        /// For example `more than 100000 objects`.
        what: String,
    },
    /// The address of the store, or a key, is invalid.
    #[error("{0}")]
    Settings(String),
}

impl StoreError {
    /// The operator's next step, where one is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            StoreError::Unreachable { hint, .. }
            | StoreError::Refused { hint, .. }
            | StoreError::NoCredentials { hint, .. } => Some((*hint).to_owned()),
            StoreError::TooLarge { .. }
            | StoreError::ListTooLarge { .. }
            | StoreError::Settings(_) => None,
        }
    }
}

/// Maximum size of an object, in bytes; larger ones are refused unread.
pub(crate) const MAX_OBJECT_SIZE: usize = 4 << 20;

/// Maximum length of a list; longer ones are refused, never truncated.
pub(crate) const MAX_LIST_LENGTH: usize = 100_000;

/// Maximum length of a key, in bytes: S3's own limit.
const MAX_KEY_LENGTH: usize = 1024;

/// A store. Keys are `/`-separated, relative to the store's prefix, without `.` or `..` parts.
pub(crate) trait Store {
    /// As an operator would write it: `s3://bucket/prefix` or `dir:/path`.
    fn address(&self) -> &str;

    /// Reads an object unless it is still at the version `known`.
    fn get(&self, key: &str, known: Option<&Etag>) -> Result<GetOutcome, StoreError>;

    /// Writes an object whole, if the condition holds at the instant of writing.
    fn put(
        &self,
        key: &str,
        body: &[u8],
        when: WriteCondition<'_>,
    ) -> Result<PutOutcome, StoreError>;

    /// The same with a limit of time, for a write that may be missed rather than waited for. A backend on this machine
    /// needs none.
    fn put_within(
        &self,
        _limit: Duration,
        key: &str,
        body: &[u8],
        when: WriteCondition<'_>,
    ) -> Result<PutOutcome, StoreError> {
        self.put(key, body, when)
    }

    /// As [`Store::get`], with a limit of time like [`Store::put_within`].
    fn get_within(
        &self,
        _limit: Duration,
        key: &str,
        known: Option<&Etag>,
    ) -> Result<GetOutcome, StoreError> {
        self.get(key, known)
    }

    /// As [`Store::list`], with a limit of time.
    fn list_within(&self, _limit: Duration, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        self.list(prefix)
    }

    /// As [`Store::delete`], with a limit of time.
    fn delete_within(&self, _limit: Duration, key: &str) -> Result<(), StoreError> {
        self.delete(key)
    }

    /// Every object whose key starts with `prefix`, in key order.
    fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError>;

    /// Deletes an object; a missing one is no error.
    fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Reads many objects of at most `limit` bytes, concurrently where that saves time. Calls `take` at most
    /// once per key, in any order, with the index of the key, so that the bodies are never all in memory; a
    /// backend may skip the remaining keys at its deadline.
    fn get_many(&self, keys: &[String], limit: usize, take: &mut dyn FnMut(usize, GetResult)) {
        for (number, key) in keys.iter().enumerate() {
            let answer = self.get(key, None);
            take(
                number,
                answer.and_then(|answer| enforce_limit(self.address(), key, answer, limit)),
            );
        }
    }

    /// The store's own time, from its last answer, to compare with [`Object::modified`] and
    /// [`ObjectMeta::modified`]. `None` if it has not reported one.
    fn server_time(&self) -> Option<Timestamp> {
        None
    }
}

/// The result of one read in [`Store::get_many`].
pub(crate) type GetResult = Result<GetOutcome, StoreError>;

/// Refuses an object of more bytes than the caller's limit.
fn enforce_limit(store: &str, key: &str, answer: GetOutcome, limit: usize) -> GetResult {
    match answer {
        GetOutcome::Object(object) if object.body.len() > limit => Err(StoreError::TooLarge {
            store: store.to_owned(),
            key: key.to_owned(),
            limit,
        }),
        answer => Ok(answer),
    }
}

/// Validates a key for all backends: not empty, no empty, `.` or `..` part, no control character.
fn check_key(key: &str) -> Result<(), StoreError> {
    let bad = |part: &str| part.is_empty() || part == "." || part == "..";
    if key.len() > MAX_KEY_LENGTH || key.split('/').any(bad) || key.chars().any(char::is_control) {
        return Err(StoreError::Settings(format!(
            "`{key}` is not a key: expected parts separated by single slashes, none of them empty, `.` or `..`"
        )));
    }
    Ok(())
}

/// Validates the start of a key: like a key, but it may be empty, and may end anywhere.
fn check_prefix(prefix: &str) -> Result<(), StoreError> {
    match prefix.rsplit_once('/') {
        Some((folder, _)) => check_key(folder),
        None => Ok(()),
    }
}

/// Refuses to write an object that no reader would accept.
fn check_size(store: &str, key: &str, bytes: u64) -> Result<(), StoreError> {
    if bytes > MAX_OBJECT_SIZE as u64 {
        return Err(StoreError::TooLarge {
            store: store.to_owned(),
            key: key.to_owned(),
            limit: MAX_OBJECT_SIZE,
        });
    }
    Ok(())
}

/// The version of a body in the stores without versions of their own: equal content, equal version.
fn content_etag(body: &[u8]) -> Etag {
    Etag(digest(body))
}
