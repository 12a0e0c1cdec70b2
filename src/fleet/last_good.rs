//! The last good lists: the baseline of the shrink guard, and the lists that stay in force when it refuses.
//!
//! They are a guard and not a cache, so only a missing file means that there are no lists. A file that
//! cannot be read or parsed is an error, and a list too large to be read back next time is refused
//! ([`MAX_MEMORY`]).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Peer;
use crate::ports::Host;
use crate::ports::root::RootError;
use crate::ports::state::{Document, StateError};
use crate::settings::is_host_address;

const VERSION: u32 = 2;

/// Maximum memory of all lists together, approximate, in bytes. [`Peer::memory_size`] is never less than the
/// size in the file, so the file of lists within this limit always fits [`MAX_FILE`].
pub(super) const MAX_MEMORY: usize = 64 << 20;

/// Maximum size of the file, in bytes.
const MAX_FILE: usize = MAX_MEMORY;

const DOCUMENT: Document = Document::new(VERSION, MAX_FILE).compact().reads_since(1);

/// Size of a list besides its expression and nodes: the sizes of the last hour and a refusal, in bytes.
const QUERY_SIZE: usize = 16 << 10;

/// Size of the reference to a node in a list, in bytes.
const INDEX_SIZE: usize = 8;

/// The lists kept between passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LastGoodLists {
    /// The store that the lists come from; `load` ignores the file of another store or environment.
    store: String,
    environment: String,
    /// By query expression.
    pub lists: BTreeMap<String, NodeList>,
}

/// The last good answer to a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeList {
    /// Shared with other lists and with the nodes in the current snapshot.
    pub nodes: Vec<Arc<Peer>>,
    /// Each size that the list has had and when it took it, by this host's clock; the last entry is current.
    pub sizes: Vec<(Timestamp, usize)>,
    /// The answer that the guard refused in place of this list.
    pub refused: Option<RefusedList>,
}

/// An answer that the guard refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RefusedList {
    /// Number of nodes in it.
    pub size: usize,
    /// When the refusal began, by this host's clock. The guard compares with the hour before this moment
    /// until it accepts a list.
    pub since: Timestamp,
    /// The reason, unless it is the size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The file format. `N` is how a list refers to a node: by its index in `nodes`, or in version 1 by the
/// whole node.
#[derive(Serialize, Deserialize)]
struct ListsFile<N> {
    version: u32,
    store: String,
    environment: String,
    /// Each node once, however many lists contain it.
    #[serde(default = "Vec::new")]
    nodes: Vec<Peer>,
    answers: BTreeMap<String, StoredList<N>>,
}

#[derive(Serialize, Deserialize)]
struct StoredList<N> {
    nodes: Vec<N>,
    sizes: Vec<(Timestamp, usize)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<RefusedList>,
}

impl LastGoodLists {
    fn path(host: &Host) -> PathBuf {
        host.state_path("fleet.json")
    }

    /// Replaces each peer that equals a known one by that one, so that it is in memory once. Returns the size of
    /// the others, in bytes.
    pub(super) fn reuse_known(&self, peers: &mut [Arc<Peer>]) -> usize {
        let mut by_name: BTreeMap<&str, Vec<&Arc<Peer>>> = BTreeMap::new();
        for peer in self.nodes() {
            by_name.entry(&peer.name).or_default().push(peer);
        }
        let mut new_memory = 0;
        for peer in peers {
            let same_name = by_name.get(peer.name.as_str());
            match same_name.and_then(|known| known.iter().find(|known| **known == peer)) {
                Some(known) => *peer = Arc::clone(known),
                None => new_memory += peer.memory_size(),
            }
        }
        new_memory
    }

    pub(super) fn empty(store: &str, environment: &str) -> LastGoodLists {
        LastGoodLists {
            store: store.to_owned(),
            environment: environment.to_owned(),
            lists: BTreeMap::new(),
        }
    }

    /// Loads the lists of this store and environment. Returns a one-line error if the file cannot be
    /// understood, because the guard then has no baseline.
    pub(super) fn load(
        host: &Host,
        store: &str,
        environment: &str,
    ) -> Result<LastGoodLists, String> {
        let path = LastGoodLists::path(host);
        let lists = DOCUMENT.load_with(&host.root, &path, LastGoodLists::parse);
        let lists = lists.map_err(|error: StateError| {
            format!(
                "cannot load the last good lists of nodes: {error} (`trueup converge --accept-shrink` replaces them with those of the store)"
            )
        })?;
        let is_same_scope =
            |lists: &LastGoodLists| lists.store == store && lists.environment == environment;
        Ok(lists
            .filter(is_same_scope)
            .unwrap_or_else(|| LastGoodLists::empty(store, environment)))
    }

    fn parse(version: u32, body: &[u8]) -> Result<LastGoodLists, String> {
        let wrong = |error: serde_json::Error| error.to_string();
        match version {
            1 => {
                let file: ListsFile<Peer> = serde_json::from_slice(body).map_err(wrong)?;
                let mut once: BTreeSet<Arc<Peer>> = BTreeSet::new();
                file.into_lists(|peer| match once.get(&peer) {
                    Some(known) => Some(known.clone()),
                    None => {
                        let new = Arc::new(peer);
                        once.insert(new.clone());
                        Some(new)
                    }
                })
            }
            _ => {
                let mut file: ListsFile<usize> = serde_json::from_slice(body).map_err(wrong)?;
                let nodes: Vec<Arc<Peer>> = std::mem::take(&mut file.nodes)
                    .into_iter()
                    .map(Arc::new)
                    .collect();
                file.into_lists(|index| nodes.get(index).cloned())
            }
        }
    }

    /// Every node of the lists, each once.
    pub(super) fn nodes(&self) -> BTreeSet<&Arc<Peer>> {
        self.lists.values().flat_map(|list| &list.nodes).collect()
    }

    /// Approximate memory of the lists, in bytes; never less than their size in the file.
    pub(super) fn memory_size(&self) -> usize {
        let lists = self.lists.iter();
        let lists = lists.map(|(query, list)| list_memory_size(query, &list.nodes));
        let nodes = self.nodes().into_iter().map(|peer| peer.memory_size());
        lists.sum::<usize>() + nodes.sum::<usize>()
    }

    pub(super) fn save(&self, host: &Host) -> Result<(), RootError> {
        let path = LastGoodLists::path(host);
        let body = self.to_json();
        if body.len() > MAX_FILE {
            return Err(RootError::TooLarge {
                path,
                limit: MAX_FILE,
            });
        }
        DOCUMENT.write(&host.root, &path, &body)
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct ListsFileRef<'a> {
            version: u32,
            store: &'a str,
            environment: &'a str,
            nodes: Vec<&'a Peer>,
            answers: BTreeMap<&'a str, StoredList<usize>>,
        }
        let nodes = self.nodes();
        let index: BTreeMap<&Arc<Peer>, usize> = nodes
            .iter()
            .enumerate()
            .map(|(n, peer)| (*peer, n))
            .collect();
        let stored = |list: &NodeList| StoredList {
            nodes: list
                .nodes
                .iter()
                .filter_map(|peer| index.get(peer))
                .copied()
                .collect(),
            sizes: list.sizes.clone(),
            refused: list.refused.clone(),
        };
        let lists = self.lists.iter();
        let file = ListsFileRef {
            version: VERSION,
            store: &self.store,
            environment: &self.environment,
            answers: lists
                .map(|(query, list)| (query.as_str(), stored(list)))
                .collect(),
            nodes: nodes.into_iter().map(|peer| &**peer).collect(),
        };
        DOCUMENT.encode(&file)
    }
}

/// Size of a list besides its nodes, in bytes.
pub(super) fn list_memory_size(expression: &str, nodes: &[Arc<Peer>]) -> usize {
    // A quote in the expression takes two bytes in the file.
    QUERY_SIZE + 2 * expression.len() + nodes.len() * INDEX_SIZE
}

impl<N> ListsFile<N> {
    fn into_lists(
        self,
        mut node: impl FnMut(N) -> Option<Arc<Peer>>,
    ) -> Result<LastGoodLists, String> {
        // Earlier versions accepted addresses that no host can have, and a known peer is not parsed again.
        let is_valid = |peer: &Arc<Peer>| {
            let mut addresses = peer.addresses.iter().chain([&peer.address]);
            addresses.all(|ip: &IpAddr| is_host_address(*ip))
        };
        let mut lists = BTreeMap::new();
        for (query, stored) in self.answers {
            let nodes: Option<Vec<Arc<Peer>>> = stored.nodes.into_iter().map(&mut node).collect();
            let mut nodes =
                nodes.ok_or_else(|| format!("{query} names a node that it does not contain"))?;
            nodes.retain(is_valid);
            let list = NodeList {
                nodes,
                sizes: stored.sizes,
                refused: stored.refused,
            };
            lists.insert(query, list);
        }
        Ok(LastGoodLists {
            store: self.store,
            environment: self.environment,
            lists,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::state::testing::{assert_saved_as_loaded, example};

    #[test]
    fn example_lists_survive_a_round_trip() {
        assert_saved_as_loaded(&DOCUMENT, "last-good-lists.json", |sandbox, path| {
            let root = &sandbox.host.root;
            let lists = DOCUMENT.load_with(root, path, LastGoodLists::parse);
            let body = lists.unwrap().unwrap().to_json();
            DOCUMENT.write(root, path, &body).unwrap();
        });
    }

    #[test]
    fn version_1_is_loaded() {
        let old = LastGoodLists::parse(1, &example("last-good-lists-v1.json"));
        let new = LastGoodLists::parse(2, &example("last-good-lists.json"));
        assert_eq!(old, new);
    }
}
