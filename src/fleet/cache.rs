//! What this host knew of its peers last: records, and the answers that its templates were given.
//!
//! Lost or unreadable it is made anew, at the cost of reading every record once; what is lost with it
//! is what a shrunken answer would be held against.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Peer, Record};
use crate::ports::Host;
use crate::ports::root::{Attrs, RootError};
use crate::ports::store::Etag;

const VERSION: u32 = 1;

/// No such file is larger, in bytes: more than twice what ten thousand nodes and five questions take.
const MAX_FILE: usize = 64 << 20;

/// What is kept between passes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    version: u32,
    /// Whose: of another store or environment nothing holds here.
    store: String,
    environment: String,
    /// By node.
    pub records: BTreeMap<String, Kept>,
    /// By question.
    pub answers: BTreeMap<String, Answer>,
}

/// A record and the version of the object that it was read from. `None`: the object held no record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub etag: Etag,
    /// The last good one.
    pub record: Option<Record>,
    /// Why the object's present version is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad: Option<String>,
}

/// The last good answer to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub nodes: Vec<Peer>,
    /// How many nodes it had from when on, by this host's clock; the last one is now.
    pub sizes: Vec<(Timestamp, usize)>,
    /// What was not taken instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
}

/// An answer that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// How many nodes it had.
    pub size: usize,
    /// Since when it is refused, by this host's clock. Until it is taken, or another one is, the hour
    /// before this counts.
    pub since: Timestamp,
    /// Why, if it is not for its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Cache {
    fn path(host: &Host) -> PathBuf {
        host.state("fleet.json")
    }

    pub fn empty(store: &str, environment: &str) -> Cache {
        Cache {
            version: VERSION,
            store: store.to_owned(),
            environment: environment.to_owned(),
            ..Cache::default()
        }
    }

    /// What is kept, if it is of this store and environment. Never an error.
    pub fn load(host: &Host, store: &str, environment: &str) -> Cache {
        let empty = Cache::empty(store, environment);
        let body = host.root.read(&Cache::path(host), MAX_FILE).ok().flatten();
        let known: Option<Cache> = body.and_then(|body| serde_json::from_slice(&body).ok());
        let same = |known: &Cache| {
            known.version == VERSION && known.store == store && known.environment == environment
        };
        known.filter(same).unwrap_or(empty)
    }

    /// Takes up the record that this host has just written, if it keeps any: it need not read that.
    pub(super) fn learn_own(
        host: &Host,
        store: &str,
        record: &Record,
        etag: &Etag,
    ) -> Result<(), RootError> {
        if host.root.meta(&Cache::path(host))?.is_none() {
            return Ok(());
        }
        let mut cache = Cache::load(host, store, &record.environment);
        let kept = Kept {
            etag: etag.clone(),
            record: Some(record.clone()),
            bad: None,
        };
        let before = cache.records.insert(record.node.clone(), kept.clone());
        if before == Some(kept) {
            return Ok(());
        }
        cache.save(host)
    }

    pub fn save(&self, host: &Host) -> Result<(), RootError> {
        let body = self.body(MAX_FILE);
        host.root.make_dirs(&host.state(""), &Attrs::mode(0o755))?;
        host.root
            .replace(&Cache::path(host), &body, &Attrs::mode(0o644))
    }

    /// As it is written, in no more than `most` bytes: what could not be read again would be no guard.
    /// The answers stay, and of the records the small ones; the others cost a read in each pass.
    pub(super) fn body(&self, most: usize) -> Vec<u8> {
        let json = |cache: &Cache| serde_json::to_vec(cache).expect("plain data is always JSON");
        let whole = json(self);
        if whole.len() <= most {
            return whole;
        }
        let size = |kept: &Kept| serde_json::to_vec(kept).map_or(usize::MAX, |body| body.len());
        let mut sizes: Vec<(usize, &String)> = self
            .records
            .iter()
            .map(|(name, kept)| (size(kept), name))
            .collect();
        sizes.sort();
        let mut cache = self.clone();
        let mut too_much = whole.len() - most;
        while let (true, Some((size, name))) = (too_much > 0, sizes.pop()) {
            cache.records.remove(name);
            too_much = too_much.saturating_sub(size);
        }
        json(&cache)
    }
}
