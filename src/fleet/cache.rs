//! Cache of the records that this host has read. A pass reads a record again only if its object changed.
//!
//! If the file is lost or unreadable, the next pass rebuilds it, at the cost of reading every record once.
//! The lists that the shrink guard compares with are stored elsewhere ([`super::last_good`]).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::NodeRecord;
use crate::ports::root::Root;
use crate::ports::root::RootError;
use crate::ports::state::Document;
use crate::ports::store::Etag;
use crate::ports::{Host, STATE_DIR};
use crate::settings::is_host_address;

const VERSION: u32 = 1;

/// Maximum size of the file, in bytes.
const MAX_FILE: usize = 64 << 20;

const DOCUMENT: Document = Document::new(VERSION, MAX_FILE).compact();

/// The contents of the cache file, kept between passes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordCache {
    version: u32,
    /// The store that the records come from; `load` ignores the file of another store or environment.
    store: String,
    environment: String,
    /// By node name.
    pub records: BTreeMap<String, CachedRecord>,
    /// Approximate memory of everything else that counts towards the limit (the last good lists), in bytes.
    #[serde(skip)]
    pub(super) other_memory: usize,
}

/// A record and the version of the object that it was read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CachedRecord {
    pub etag: Etag,
    /// The last good record; `None` if the object never held one. Shared, because a pass holds the cache
    /// twice: as it was loaded and as it is now.
    #[serde(with = "shared::option")]
    pub record: Option<Arc<NodeRecord>>,
    /// Why the object's present version is not a valid record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad: Option<String>,
}

/// The nodes whose records this host has kept, of whatever store and environment.
pub(crate) fn cached_nodes(root: &Root) -> Vec<String> {
    let known: Option<RecordCache> = DOCUMENT.load_cache(root, &RecordCache::path());
    known.map_or(Vec::new(), |known| known.records.into_keys().collect())
}

impl CachedRecord {
    pub(super) fn memory_size(&self) -> usize {
        const ETAG: usize = 128;
        let record = self.record.as_ref();
        let bad = self.bad.as_ref().map_or(0, String::len);
        ETAG + bad + record.map_or(0, |record| record.memory_size())
    }
}

impl RecordCache {
    fn path() -> PathBuf {
        Path::new(STATE_DIR).join("fleet-records.json")
    }

    pub(crate) fn empty(store: &str, environment: &str) -> RecordCache {
        RecordCache {
            version: VERSION,
            store: store.to_owned(),
            environment: environment.to_owned(),
            ..RecordCache::default()
        }
    }

    /// Loads the cache of this store and environment. Returns an empty one rather than an error.
    pub(crate) fn load(root: &Root, store: &str, environment: &str) -> RecordCache {
        let empty = RecordCache::empty(store, environment);
        let known: Option<RecordCache> = DOCUMENT.load_cache(root, &RecordCache::path());
        let is_same_scope =
            |known: &RecordCache| known.store == store && known.environment == environment;
        let mut known = known.filter(is_same_scope).unwrap_or(empty);
        known.drop_invalid_records();
        known
    }

    /// Earlier versions accepted addresses that no host can have, and a cached record is not parsed again.
    fn drop_invalid_records(&mut self) {
        self.records.retain(|_, cached| {
            let record = cached.record.as_ref();
            record.is_none_or(|record| record.addresses.iter().all(|ip| is_host_address(*ip)))
        });
    }

    /// Approximate memory of the records and of `other_memory`, in bytes.
    pub(super) fn memory_size(&self) -> usize {
        let records = self.records.values().map(CachedRecord::memory_size);
        self.other_memory + records.sum::<usize>()
    }

    /// Adds the record that this host has just written, so that it need not read it back. Does nothing on a
    /// host without a cache file.
    pub(super) fn update_own_record(
        host: &Host,
        store: &str,
        record: &NodeRecord,
        etag: &Etag,
    ) -> Result<(), RootError> {
        if host.root.meta(&RecordCache::path())?.is_none() {
            return Ok(());
        }
        let mut cache = RecordCache::load(&host.root, store, &record.environment);
        let cached = CachedRecord {
            etag: etag.clone(),
            record: Some(Arc::new(record.clone())),
            bad: None,
        };
        let before = cache.records.insert(record.node.clone(), cached.clone());
        if before == Some(cached) {
            return Ok(());
        }
        cache.save(host)
    }

    pub(crate) fn save(&self, host: &Host) -> Result<(), RootError> {
        DOCUMENT.write(&host.root, &RecordCache::path(), &self.to_json(MAX_FILE))
    }

    /// Serializes at most `max_bytes`, so that the file can be read back. Drops the largest records if
    /// needed; each of those then costs one read per pass.
    pub(super) fn to_json(&self, max_bytes: usize) -> Vec<u8> {
        let json = DOCUMENT.encode(self);
        if json.len() <= max_bytes {
            return json;
        }
        let size = |cached: &CachedRecord| DOCUMENT.encode(cached).len();
        let mut sizes: Vec<(usize, &String)> = self
            .records
            .iter()
            .map(|(name, cached)| (size(cached), name))
            .collect();
        sizes.sort();
        let mut cache = self.clone();
        let mut excess = json.len() - max_bytes;
        while let (true, Some((size, name))) = (excess > 0, sizes.pop()) {
            cache.records.remove(name);
            excess = excess.saturating_sub(size);
        }
        DOCUMENT.encode(&cache)
    }
}

/// Serializes an `Arc` as its contents.
mod shared {
    pub(super) mod option {
        use std::sync::Arc;

        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        pub(crate) fn serialize<T: Serialize, S: Serializer>(
            value: &Option<Arc<T>>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            value.as_deref().serialize(serializer)
        }

        pub(crate) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Arc<T>>, D::Error> {
            Ok(Option::<T>::deserialize(deserializer)?.map(Arc::new))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::state::testing::assert_round_trip;

    #[test]
    fn example_cache_survives_a_round_trip() {
        assert_round_trip::<RecordCache>(&DOCUMENT, "record-cache.json");
    }
}
