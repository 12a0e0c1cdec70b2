//! The store port: where hosts, CI and operators meet.
//!
//! Five operations are all that trueup asks of a store. Everything the fleet agrees on is built
//! from a conditional read and a compare-and-swap write, so a backend that gets either wrong is
//! worse than none: every backend passes the one suite in `suite.rs`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The version of an object, opaque: only ever compared for equality or sent back to its store.
/// Kept without the quotes that S3 wraps it in, because some servers only match it unquoted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Etag(pub String);

/// What [`Store::get`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// The object is still at the version that the caller knows. Nothing was transferred.
    Unchanged,
    /// There is no such object.
    Missing,
    Object(Object),
}

/// An object as it was at one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub body: Vec<u8>,
    pub etag: Etag,
    /// By the store's own clock.
    pub modified: Timestamp,
}

/// When [`Store::put`] may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When<'a> {
    Always,
    /// Only if there is no such object yet.
    Absent,
    /// Only if the object is still at this version.
    Matches(&'a Etag),
}

/// What [`Store::put`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    Written(Etag),
    /// The condition did not hold; nothing was written.
    Conflict,
}

/// One row of [`Store::list`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The whole key, relative to the store's prefix.
    pub key: String,
    pub etag: Etag,
    /// By the store's own clock.
    pub modified: Timestamp,
    /// In bytes.
    pub size: u64,
}

/// Why a store could not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not reached, timed out, or answered that it cannot serve now: the same call may work later.
    #[error("the store {store} cannot be reached: {why}")]
    Unreachable { store: String, why: String },
    /// Reached, and it said no: credentials, permissions, no such bucket, a refused key.
    #[error("the store {store} refused `{key}`: {why}")]
    Refused {
        store: String,
        key: String,
        why: String,
    },
    /// The object is larger than the caller is willing to read.
    #[error("{store}/{key} is larger than {limit} bytes")]
    TooLarge {
        store: String,
        key: String,
        limit: usize,
    },
    /// The address of the store, or a key, is not usable as written.
    #[error("{0}")]
    Settings(String),
}

/// No object that trueup reads is larger than this many bytes; a larger one is refused unread.
pub const MAX_OBJECT: usize = 4 << 20;

/// A store. Keys are `/`-separated, relative to the store's prefix, without `.` or `..` parts.
pub trait Store {
    /// As an operator would write it: `s3://bucket/prefix` or `dir:/path`.
    fn address(&self) -> &str;

    /// Reads an object unless it is still at the version `known`.
    fn get(&self, key: &str, known: Option<&Etag>) -> Result<Fetched, StoreError>;

    /// Writes an object whole, if the condition holds at the instant of writing.
    fn put(&self, key: &str, body: &[u8], when: When<'_>) -> Result<Put, StoreError>;

    /// Every object whose key starts with `prefix`, in key order.
    fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError>;

    /// Removes an object; one that is not there is no error.
    fn delete(&self, key: &str) -> Result<(), StoreError>;
}

/// A key that every backend can take: not empty, no empty, `.` or `..` part, no control character.
fn check_key(key: &str) -> Result<(), StoreError> {
    let bad = |part: &str| part.is_empty() || part == "." || part == "..";
    if key.split('/').any(bad) || key.chars().any(char::is_control) {
        return Err(StoreError::Settings(format!(
            "`{key}` is not a key: expected parts separated by single slashes, none of them empty, `.` or `..`"
        )));
    }
    Ok(())
}

/// Where the store is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    /// `s3://bucket[/prefix]` or `dir:/absolute/path`.
    pub url: String,
    pub region: Option<String>,
    pub endpoint: Option<String>,
    #[serde(default)]
    pub path_style: bool,
}
