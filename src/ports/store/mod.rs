//! The store port: where hosts, CI and operators meet.
//!
//! Five operations are all that trueup asks of a store. Everything the fleet agrees on is built
//! from a conditional read and a compare-and-swap write, so a backend that gets either wrong is
//! worse than none: every backend passes the one suite in `conformance.rs`.

#[cfg(test)]
mod conformance;
mod dir;
#[cfg(any(test, feature = "test-backends"))]
mod memory;
mod s3;

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use dir::DirStore;
#[cfg(any(test, feature = "test-backends"))]
pub use memory::MemoryStore;
pub use s3::{S3Settings, S3Store};

/// The version of an object, opaque: only ever compared for equality or sent back to its store.
/// Kept without the quotes that S3 wraps it in, because some servers only match it unquoted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Etag(pub String);

/// What [`Store::get`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GetOutcome {
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
pub enum WriteCondition<'a> {
    Always,
    /// Only if there is no such object yet.
    Absent,
    /// Only if the object is still at this version.
    Matches(&'a Etag),
}

/// What [`Store::put`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutOutcome {
    Written(Etag),
    /// The condition did not hold; nothing was written.
    Conflict,
}

/// One row of [`Store::list`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
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
    /// There is more than anybody means to keep there, and more than a pass may cost.
    #[error("{store}/{prefix} holds {what}")]
    ListTooLarge {
        store: String,
        prefix: String,
        /// `more than 100000 objects`.
        what: String,
    },
    /// The address of the store, or a key, is not usable as written.
    #[error("{0}")]
    Settings(String),
}

/// No object that trueup reads is larger than this many bytes; a larger one is refused unread.
pub const MAX_OBJECT_SIZE: usize = 4 << 20;

/// No list is longer; a longer one is refused, and never cut.
pub const MAX_LIST_LENGTH: usize = 100_000;

/// No key is longer, in bytes: S3's own limit.
const MAX_KEY_LENGTH: usize = 1024;

/// No version is longer, in bytes: those of S3 have 32 digits, and a few more when written in parts.
const MAX_ETAG_LENGTH: usize = 256;

/// A store. Keys are `/`-separated, relative to the store's prefix, without `.` or `..` parts.
pub trait Store {
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

    /// Every object whose key starts with `prefix`, in key order.
    fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError>;

    /// Removes an object; one that is not there is no error.
    fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Reads many objects of at most `limit` bytes, several at a time where that saves waiting. `take` gets
    /// each answer once, in any order, with the number of its key, so that they are never all in memory; a
    /// backend may give up after a while on those that are still to come.
    fn get_many(&self, keys: &[String], limit: usize, take: &mut dyn FnMut(usize, GetResult)) {
        for (number, key) in keys.iter().enumerate() {
            let answer = self.get(key, None);
            take(
                number,
                answer.and_then(|answer| enforce_limit(self.address(), key, answer, limit)),
            );
        }
    }

    /// The store's own clock, as its last answer told it; what [`Object::modified`] and
    /// [`ObjectMeta::modified`] are held against. `None`: it has told nothing.
    fn server_time(&self) -> Option<Timestamp> {
        None
    }
}

/// What became of one read of many.
pub type GetResult = Result<GetOutcome, StoreError>;

/// The answer, unless it is an object of more bytes than the caller reads.
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

/// Where the store is, as written in the settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StoreSettings {
    /// `s3://bucket`, `s3://bucket/prefix` or `dir:/absolute/path`.
    pub url: String,
    /// The region of the bucket. Without it: `AWS_REGION`, `AWS_DEFAULT_REGION`, then the AWS
    /// profile. Only for `s3://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The address of an S3-compatible server, with its scheme. Only for `s3://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Put the bucket in the path instead of in the host name, as most S3-compatible servers want
    /// it. Only for `s3://`.
    #[serde(default)]
    pub path_style: bool,
}

/// Opens the store that the settings name. Nothing is contacted: a store that is not there shows
/// in the first operation.
pub fn open(settings: &StoreSettings) -> Result<Box<dyn Store>, StoreError> {
    if let Some(place) = settings.url.strip_prefix("s3://") {
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        return Ok(Box::new(S3Store::open(S3Settings {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            region: settings.region.clone(),
            endpoint: settings.endpoint.clone(),
            path_style: settings.path_style,
        })?));
    }
    if let Some(path) = settings.url.strip_prefix("dir:") {
        return Ok(Box::new(DirStore::open(Path::new(path))?));
    }
    Err(StoreError::Settings(format!(
        "`{}` is not the address of a store: expected s3://bucket, s3://bucket/prefix or dir:/absolute/path",
        settings.url
    )))
}

/// A key that every backend can take: not empty, no empty, `.` or `..` part, no control character.
fn check_key(key: &str) -> Result<(), StoreError> {
    let bad = |part: &str| part.is_empty() || part == "." || part == "..";
    if key.len() > MAX_KEY_LENGTH || key.split('/').any(bad) || key.chars().any(char::is_control) {
        return Err(StoreError::Settings(format!(
            "`{key}` is not a key: expected parts separated by single slashes, none of them empty, `.` or `..`"
        )));
    }
    Ok(())
}

/// The start of a key: like a key, but it may be empty, and may end anywhere.
fn check_prefix(prefix: &str) -> Result<(), StoreError> {
    match prefix.rsplit_once('/') {
        Some((folder, _)) => check_key(folder),
        None => Ok(()),
    }
}

/// Refuses to write what no reader would take.
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

/// The version of a body in the stores that have no versions of their own: equal content, equal
/// version.
fn content_etag(body: &[u8]) -> Etag {
    use sha2::{Digest, Sha256};
    use std::fmt::Write;

    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(body) {
        write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
    }
    Etag(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> StoreSettings {
        serde_json::from_value(serde_json::json!({"url": url, "region": "eu-west-1"})).unwrap()
    }

    #[test]
    fn url_scheme_selects_the_backend() {
        for (url, address) in [
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://bucket/a/b/", "s3://bucket/a/b"),
            ("dir:/srv/store", "dir:/srv/store"),
            ("dir:/srv/store/", "dir:/srv/store"),
        ] {
            assert_eq!(open(&settings(url)).unwrap().address(), address, "{url}");
        }
    }

    #[test]
    fn invalid_url_error_says_what_was_expected() {
        for (url, expected) in [
            ("http://bucket", "expected s3://bucket"),
            ("bucket", "expected s3://bucket"),
            ("s3://", "bucket"),
            ("s3:///prefix", "bucket"),
            ("s3://Bad Bucket", "bucket"),
            ("s3://bucket/a//b", "not a key"),
            ("s3://bucket/../b", "not a key"),
            ("dir:relative/path", "absolute"),
            ("dir:", "absolute"),
        ] {
            match open(&settings(url)).map(|store| store.address().to_owned()) {
                Err(StoreError::Settings(why)) => assert!(why.contains(expected), "{url}: {why}"),
                other => panic!("{url}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_mistyped_setting_is_refused() {
        let written = serde_json::json!({"url": "dir:/srv", "regoin": "eu-west-1"});
        let error = serde_json::from_value::<StoreSettings>(written).unwrap_err();
        assert!(error.to_string().contains("regoin"), "{error}");
    }
}
