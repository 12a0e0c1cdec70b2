//! What this host knew of its peers last: records, and the answers that its templates were given.
//!
//! Lost or unreadable it is made anew, at the cost of reading every record once; what is lost with it
//! is what a shrunken answer would be held against.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Peer, Record};
use crate::ports::Host;
use crate::ports::root::{Attrs, RootError};
use crate::ports::store::Etag;
use crate::settings::is_address;

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
    /// The last good one. Shared, because a pass has the cache twice: as it was, and as it is now.
    #[serde(with = "shared::option")]
    pub record: Option<Arc<Record>>,
    /// Why the object's present version is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad: Option<String>,
}

/// The last good answer to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    #[serde(with = "shared::list")]
    pub nodes: Vec<Arc<Peer>>,
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
        let mut known = known.filter(same).unwrap_or(empty);
        known.forget_what_is_not_taken_any_more();
        known
    }

    /// An earlier trueup took addresses that are no host's, and what is known is not read again.
    fn forget_what_is_not_taken_any_more(&mut self) {
        let good = |addresses: &[IpAddr]| addresses.iter().all(|ip| is_address(*ip));
        self.records.retain(|_, kept| {
            let record = kept.record.as_ref();
            record.is_none_or(|record| good(&record.addresses))
        });
        for answer in self.answers.values_mut() {
            answer.nodes.retain(|peer| good(&peer.addresses));
        }
    }

    /// About how many bytes the records take in memory.
    pub(super) fn weight(&self) -> usize {
        let records = self
            .records
            .values()
            .filter_map(|kept| kept.record.as_ref());
        records.map(|record| record.weight()).sum()
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

    pub(super) mod list {
        use std::sync::Arc;

        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        pub fn serialize<T: Serialize, S: Serializer>(
            list: &[Arc<T>],
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(list.iter().map(|one| &**one))
        }

        pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Vec<Arc<T>>, D::Error> {
            let list = Vec::<T>::deserialize(deserializer)?;
            Ok(list.into_iter().map(Arc::new).collect())
        }
    }
}
