//! The last good lists: what a list that shrinks is held against, and what stays in force instead of it.
//!
//! They are the guard, so they are no cache: only a file that is missing means that there are none. One that
//! cannot be read, or is not understood, is an error, and a list that could not be read back next time is
//! not taken at all ([`MAX_MEMORY`]).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Peer;
use crate::ports::Host;
use crate::ports::root::{Attrs, RootError};
use crate::settings::is_host_address;

const VERSION: u32 = 2;

/// About how many bytes of memory all lists take together at most. A node weighs no less than what it takes
/// in the file ([`Peer::memory_size`]), so a file of lists that are taken is never larger than what is read.
pub(super) const MAX_MEMORY: usize = 64 << 20;

/// No file is larger, in bytes.
const MAX_FILE: usize = MAX_MEMORY;

/// What a question takes besides its words and nodes: its sizes of an hour, and a refusal.
const QUERY_SIZE: usize = 16 << 10;

/// What a node takes in a list that holds it.
const INDEX_SIZE: usize = 8;

/// What is kept between passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastGoodLists {
    /// Whose: of another store or environment nothing holds here.
    store: String,
    environment: String,
    /// By question.
    pub lists: BTreeMap<String, NodeList>,
}

/// The last good answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeList {
    /// Shared with other answers, and with what is there now.
    pub nodes: Vec<Arc<Peer>>,
    /// How many nodes it had from when on, by this host's clock; the last one is now.
    pub sizes: Vec<(Timestamp, usize)>,
    /// What was not taken instead.
    pub refused: Option<RefusedList>,
}

/// An answer that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedList {
    /// How many nodes it had.
    pub size: usize,
    /// Since when it is refused, by this host's clock. Until it is taken, or another one is, the hour
    /// before this counts.
    pub since: Timestamp,
    /// Why, if it is not for its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The file. `N`: how an answer names a node: by its place in `nodes`, or, in the first version, as a whole.
#[derive(Serialize, Deserialize)]
struct ListsFile<N> {
    version: u32,
    store: String,
    environment: String,
    /// Each once, however many answers have it.
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

    pub fn empty(store: &str, environment: &str) -> LastGoodLists {
        LastGoodLists {
            store: store.to_owned(),
            environment: environment.to_owned(),
            lists: BTreeMap::new(),
        }
    }

    /// What is kept, if it is of this store and environment. An error, in a line: nobody can tell what is.
    pub fn load(host: &Host, store: &str, environment: &str) -> Result<LastGoodLists, String> {
        let unknown = |why: String| {
            format!(
                "the last good lists of nodes are not known: {why} (`trueup converge --accept-shrink` takes those of the store as they are)"
            )
        };
        let path = LastGoodLists::path(host);
        let body = host.root.read(&path, MAX_FILE);
        let Some(body) = body.map_err(|error| unknown(error.to_string()))? else {
            return Ok(LastGoodLists::empty(store, environment));
        };
        let lists = LastGoodLists::parse(&body).map_err(|why| {
            unknown(format!(
                "{} is not as trueup wrote it: {why}",
                path.display()
            ))
        })?;
        match lists.store == store && lists.environment == environment {
            true => Ok(lists),
            false => Ok(LastGoodLists::empty(store, environment)),
        }
    }

    fn parse(body: &[u8]) -> Result<LastGoodLists, String> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let wrong = |error: serde_json::Error| error.to_string();
        let head: Head = serde_json::from_slice(body).map_err(wrong)?;
        match head.version {
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
            VERSION => {
                let mut file: ListsFile<usize> = serde_json::from_slice(body).map_err(wrong)?;
                let nodes: Vec<Arc<Peer>> = std::mem::take(&mut file.nodes)
                    .into_iter()
                    .map(Arc::new)
                    .collect();
                file.into_lists(|place| nodes.get(place).cloned())
            }
            other => Err(format!("it is of version {other}")),
        }
    }

    /// Every node of them, each once.
    pub(super) fn nodes(&self) -> BTreeSet<&Arc<Peer>> {
        self.lists
            .values()
            .flat_map(|answer| &answer.nodes)
            .collect()
    }

    /// About how many bytes they take in memory; no less than in the file.
    pub(super) fn memory_size(&self) -> usize {
        let answers = self.lists.iter();
        let places = answers.map(|(words, answer)| list_memory_size(words, &answer.nodes));
        let nodes = self.nodes().into_iter().map(|peer| peer.memory_size());
        places.sum::<usize>() + nodes.sum::<usize>()
    }

    pub fn save(&self, host: &Host) -> Result<(), RootError> {
        let path = LastGoodLists::path(host);
        let body = self.to_json();
        if body.len() > MAX_FILE {
            return Err(RootError::TooLarge {
                path,
                limit: MAX_FILE,
            });
        }
        host.root
            .create_dir_all(&host.state_path(""), &Attrs::mode(0o755))?;
        host.root.write_atomic(&path, &body, &Attrs::mode(0o644))
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
        let place: BTreeMap<&Arc<Peer>, usize> = nodes
            .iter()
            .enumerate()
            .map(|(n, peer)| (*peer, n))
            .collect();
        let entry = |answer: &NodeList| StoredList {
            nodes: answer
                .nodes
                .iter()
                .filter_map(|peer| place.get(peer))
                .copied()
                .collect(),
            sizes: answer.sizes.clone(),
            refused: answer.refused.clone(),
        };
        let answers = self.lists.iter();
        let written = ListsFileRef {
            version: VERSION,
            store: &self.store,
            environment: &self.environment,
            answers: answers
                .map(|(words, answer)| (words.as_str(), entry(answer)))
                .collect(),
            nodes: nodes.into_iter().map(|peer| &**peer).collect(),
        };
        serde_json::to_vec(&written).expect("plain data is always JSON")
    }
}

/// What an answer weighs besides its nodes.
pub(super) fn list_memory_size(expression: &str, nodes: &[Arc<Peer>]) -> usize {
    // A quote of the words takes two bytes in the file.
    QUERY_SIZE + 2 * expression.len() + nodes.len() * INDEX_SIZE
}

impl<N> ListsFile<N> {
    fn into_lists(
        self,
        mut node: impl FnMut(N) -> Option<Arc<Peer>>,
    ) -> Result<LastGoodLists, String> {
        // An earlier trueup took addresses that are no host's, and what is known is not read again.
        let good = |peer: &Arc<Peer>| {
            let mut addresses = peer.addresses.iter().chain([&peer.address]);
            addresses.all(|ip: &IpAddr| is_host_address(*ip))
        };
        let mut answers = BTreeMap::new();
        for (words, entry) in self.answers {
            let nodes: Option<Vec<Arc<Peer>>> = entry.nodes.into_iter().map(&mut node).collect();
            let mut nodes =
                nodes.ok_or_else(|| format!("{words} names a node that it does not have"))?;
            nodes.retain(good);
            let answer = NodeList {
                nodes,
                sizes: entry.sizes,
                refused: entry.refused,
            };
            answers.insert(words, answer);
        }
        Ok(LastGoodLists {
            store: self.store,
            environment: self.environment,
            lists: answers,
        })
    }
}
