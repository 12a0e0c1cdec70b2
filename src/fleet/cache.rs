//! The records that this host has read: none is read again while its object is the same.
//!
//! Lost or unreadable it is made anew, at the cost of reading every record once. What a list is held against
//! is kept elsewhere ([`super::lists`]).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Record;
use crate::ports::Host;
use crate::ports::root::{Attrs, RootError};
use crate::ports::store::Etag;
use crate::settings::is_address;

const VERSION: u32 = 1;

/// No such file is larger, in bytes.
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
    /// About how many bytes what is in memory besides takes.
    #[serde(skip)]
    pub(super) beside: usize,
}

/// A record and the version of the object that it was read from. `None`: the object held no record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub etag: Etag,
    /// The last good one. Shared, because a pass has the cache twice: as it was, and as it is now.
    #[serde(with = "shared::option")]
    pub record: Option<Arc<Record>>,
    /// Why the object's present version is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad: Option<String>,
}

impl Kept {
    pub(super) fn weight(&self) -> usize {
        const ETAG: usize = 128;
        let record = self.record.as_ref();
        let bad = self.bad.as_ref().map_or(0, String::len);
        ETAG + bad + record.map_or(0, |record| record.weight())
    }
}

impl Cache {
    fn path(host: &Host) -> PathBuf {
        host.state("fleet-records.json")
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
        let mut known = known.filter(same).unwrap_or(empty);
        known.forget_what_is_not_taken_any_more();
        known
    }

    /// An earlier trueup took addresses that are no host's, and what is known is not read again.
    fn forget_what_is_not_taken_any_more(&mut self) {
        self.records.retain(|_, kept| {
            let record = kept.record.as_ref();
            record.is_none_or(|record| record.addresses.iter().all(|ip| is_address(*ip)))
        });
    }

    /// About how many bytes the records take in memory, with what is there besides.
    pub(super) fn weight(&self) -> usize {
        let records = self.records.values().map(Kept::weight);
        self.beside + records.sum::<usize>()
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
            record: Some(Arc::new(record.clone())),
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

    /// As it is written, in no more than `most` bytes, so that it can be read again: without the largest
    /// records, which cost a read in each pass then.
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

/// What is shared in memory is written as if it were not.
mod shared {
    pub(super) mod option {
        use std::sync::Arc;

        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        pub fn serialize<T: Serialize, S: Serializer>(
            value: &Option<Arc<T>>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            value.as_deref().serialize(serializer)
        }

        pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Arc<T>>, D::Error> {
            Ok(Option::<T>::deserialize(deserializer)?.map(Arc::new))
        }
    }
}
