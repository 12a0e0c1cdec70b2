//! Loads the peers for templates: at the first query, once per pass.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::cache::RecordCache;
use super::last_good::LastGoodLists;
use super::liveness::StoreLiveness;
use super::peer_list::{ObservedNodes, PeerList, QueryResult, ShrinkGuard};
use super::registry::{MAX_MEMORY, too_much_memory};
use super::{Peer, Snapshot, take_snapshot};
use crate::ports::Host;
use crate::ports::root::RootError;
use crate::ports::store::{Store, StoreError};
use crate::settings::{FleetSettings, Settings};

/// Maximum number of lines about records in a report.
const MAX_PROBLEM_LINES: usize = 5;

/// Lazily loaded peers of this host.
pub(crate) struct PeerSource<'a> {
    fleet: &'a FleetSettings,
    environment: &'a str,
    /// The store's name in the settings.
    store_name: &'a str,
    origin: Origin<'a>,
    /// Accept the list as it is, however small (`--accept-shrink`).
    accept_shrink: bool,
    /// This host's node name and addresses.
    own_node: (String, Vec<IpAddr>),
    loaded: OnceCell<LoadedPeers>,
}

/// Why a query could not be answered at all.
#[derive(Debug)]
pub(crate) enum PeerQueryError {
    /// The store caused it.
    Store(StoreError),
    /// The last good lists caused it: they cannot be read, or would be too large to keep.
    Lists(String),
}

#[derive(Clone, Copy)]
enum Origin<'a> {
    #[cfg(test)]
    /// No host: the roles are only checked.
    SettingsOnly,
    /// What the host last saved; no query to the store.
    LastKnown(&'a Host),
    Store(&'a Host, &'a dyn Store),
}

struct LoadedPeers {
    peer_list: Arc<Mutex<PeerList>>,
    cache_before: RecordCache,
    cache: RecordCache,
    /// As in the file; `None` if it cannot be read.
    last_good: Option<LastGoodLists>,
    liveness: Option<StoreLiveness>,
    problems: Vec<String>,
    /// Why the store gave no answer, or only a partial one.
    store_error: Option<StoreError>,
}

impl<'a> PeerSource<'a> {
    fn new(settings: &'a Settings, source: Origin<'a>) -> PeerSource<'a> {
        PeerSource {
            fleet: &settings.fleet,
            environment: &settings.environment,
            store_name: &settings.store.url,
            origin: source,
            accept_shrink: false,
            own_node: (String::new(), Vec::new()),
            loaded: OnceCell::new(),
        }
    }

    /// Sets the name and addresses of this host; `load` removes these addresses from all other nodes.
    pub(crate) fn with_own_node(self, node: &str, addresses: Vec<IpAddr>) -> PeerSource<'a> {
        PeerSource {
            own_node: (node.to_owned(), addresses),
            ..self
        }
    }

    #[cfg(test)]
    /// Only the nodes from the settings.
    pub(crate) fn from_settings(settings: &'a Settings) -> PeerSource<'a> {
        PeerSource::new(settings, Origin::SettingsOnly)
    }

    /// The peers that this host last saved. Does not query the store.
    pub(crate) fn last_known(settings: &'a Settings, host: &'a Host) -> PeerSource<'a> {
        PeerSource::new(settings, Origin::LastKnown(host))
    }

    /// The peers in the store, queried at first use. `accept_shrink`: however few they are.
    pub(crate) fn from_store(
        settings: &'a Settings,
        host: &'a Host,
        store: &'a dyn Store,
        accept_shrink: bool,
    ) -> PeerSource<'a> {
        PeerSource {
            accept_shrink,
            ..PeerSource::new(settings, Origin::Store(host, store))
        }
    }

    /// The list that answers `nodes(…)`. The first call queries the store.
    pub(crate) fn peer_list(&self) -> Arc<Mutex<PeerList>> {
        self.loaded.get_or_init(|| self.load()).peer_list.clone()
    }

    fn load(&self) -> LoadedPeers {
        let (host, store) = match self.origin {
            #[cfg(test)]
            Origin::SettingsOnly => (None, None),
            Origin::LastKnown(host) => (Some(host), None),
            Origin::Store(host, store) => (Some(host), Some(store)),
        };
        let (store_name, environment) = (self.store_name, self.environment);
        let mut before = match host {
            Some(host) => RecordCache::load(host, store_name, environment),
            None => RecordCache::empty(store_name, environment),
        };
        let nothing = || LastGoodLists::empty(store_name, environment);
        let lists = match host {
            Some(host) => LastGoodLists::load(host, store_name, environment),
            None => Ok(nothing()),
        };
        // With `--accept-shrink` the guard needs no baseline.
        let (lists, unknown) = match lists {
            Ok(lists) => (Some(lists), None),
            Err(why) => (None, Some(why).filter(|_| !self.accept_shrink)),
        };
        let known = lists.clone().unwrap_or_else(nothing);
        before.other_memory = known.memory_size();
        let mut cache = before.clone();
        let answer = match (store, &unknown) {
            (Some(store), None) => Some(self.query_store(store, &mut cache, &known, host)),
            _ => None,
        };
        let heard = host.and_then(|host| StoreLiveness::load(host, store_name, environment));
        let mut problems = Vec::new();
        let (observed, liveness, store_error) = match answer {
            None => (
                unknown.map_or(ObservedNodes::NotAsked, ObservedNodes::Unavailable),
                heard,
                None,
            ),
            Some(Err(error)) => {
                // Discard what the query added to the cache before it failed.
                cache = before.clone();
                let seen = ObservedNodes::Unavailable(error.to_string());
                (seen, heard.map(StoreLiveness::after_failure), Some(error))
            }
            Some(Ok((snapshot, peers, liveness))) => {
                problems = snapshot.problems;
                let seen = match &snapshot.unread {
                    Some(unread) => ObservedNodes::Partial(peers, unread.to_string()),
                    None => ObservedNodes::Complete(peers),
                };
                let store_error = snapshot.unread.map(|unread| unread.first);
                (seen, Some(liveness), store_error)
            }
        };
        let fixed = self.fleet.static_nodes.iter();
        let fixed = fixed.filter_map(|(name, node)| Peer::from_settings(name, node).map(Arc::new));
        let guard = ShrinkGuard {
            max_shrink: self.fleet.max_shrink,
            accept_shrink: self.accept_shrink,
            now: host.map_or(jiff::Timestamp::UNIX_EPOCH, |host| host.clock.now()),
        };
        let book = PeerList::new(fixed.collect(), observed, known, guard);
        LoadedPeers {
            peer_list: Arc::new(Mutex::new(book)),
            cache_before: before,
            cache,
            last_good: lists,
            liveness,
            problems,
            store_error,
        }
    }

    /// Queries the store for the nodes that are alive and serve.
    fn query_store(
        &self,
        store: &dyn Store,
        cache: &mut RecordCache,
        known: &LastGoodLists,
        host: Option<&Host>,
    ) -> Result<(Snapshot, Vec<Arc<Peer>>, StoreLiveness), StoreError> {
        let gone_after = self.fleet.gone_after();
        let mut snapshot = take_snapshot(store, self.environment, gone_after, cache)?;
        let whose = (self.store_name, self.environment);
        let heard = host.and_then(|host| StoreLiveness::load(host, whose.0, whose.1));
        let liveness = StoreLiveness::after_answer(heard, whose, snapshot.now, gone_after);
        let mut peers = self.live_serving_peers(&mut snapshot, known, &liveness);
        let new = reuse_known(&mut peers, known);
        match cache.memory_size() + new > MAX_MEMORY {
            true => Err(too_much_memory(store, self.environment)),
            false => Ok((snapshot, peers, liveness)),
        }
    }

    /// The nodes that are alive and serve. A listed node counts as silent only if the store answered this
    /// host for all of `gone_after`.
    fn live_serving_peers(
        &self,
        snapshot: &mut Snapshot,
        known: &LastGoodLists,
        liveness: &StoreLiveness,
    ) -> Vec<Arc<Peer>> {
        let gone_after = self.fleet.gone_after();
        let listened = liveness.answered_for() >= gone_after;
        let listed = known.lists.values().flat_map(|answer| &answer.nodes);
        let listed: BTreeSet<&str> = listed.map(|peer| peer.name.as_str()).collect();
        let alive = snapshot.rows.iter().filter(|row| {
            let listed = listed.contains(row.node.as_str());
            row.silent_for(snapshot.now) <= gone_after || (listed && !listened)
        });
        let peers = alive.filter_map(|row| Peer::from_record(&row.record));
        let mut mistaken = Vec::new();
        let peers = peers.filter_map(|peer| {
            let (node, addresses) = &self.own_node;
            if peer.name == *node {
                return Some(peer);
            }
            let (peer, mine) = peer.without_addresses(addresses);
            mistaken.extend(mine);
            peer
        });
        let peers: Vec<Arc<Peer>> = peers.map(Arc::new).collect();
        snapshot.problems.extend(mistaken);
        peers
    }

    fn lock_peer_list(loaded: &LoadedPeers) -> MutexGuard<'_, PeerList> {
        loaded
            .peer_list
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Saves the state for the next pass. `acted_on`: the pass acts on the answers, so they become the last
    /// good lists.
    pub(crate) fn save(&self, acted_on: bool) -> Result<(), RootError> {
        let (Some(loaded), Origin::Store(host, _)) = (self.loaded.get(), self.origin) else {
            return Ok(());
        };
        if let Some(liveness) = &loaded.liveness {
            liveness.save(host)?;
        }
        if acted_on {
            let book = PeerSource::lock_peer_list(loaded);
            let asked = book.results().iter();
            let mut lists = LastGoodLists::empty(self.store_name, self.environment);
            lists.lists = asked
                .map(|(words, asked)| (words.clone(), asked.list.clone()))
                .collect();
            if loaded.last_good.as_ref() != Some(&lists) {
                lists.save(host)?;
            }
        }
        if loaded.cache == loaded.cache_before {
            return Ok(());
        }
        loaded.cache.save(host)
    }

    /// Problems of records in the store, one line each, at most `MAX_PROBLEM_LINES` and the number
    /// of further ones.
    pub(crate) fn record_problems(&self) -> Vec<String> {
        let problems = self.loaded.get().map_or(&[][..], |found| &found.problems);
        let mut notes: Vec<String> = problems.iter().take(MAX_PROBLEM_LINES).cloned().collect();
        if problems.len() > MAX_PROBLEM_LINES {
            let more = problems.len() - MAX_PROBLEM_LINES;
            notes.push(format!(
                "{more} more records like these: `trueup fleet` lists them"
            ));
        }
        notes
    }

    /// Why a last good list stays in force, one line per query.
    pub(crate) fn kept_reasons(&self) -> Vec<String> {
        self.result_lines(|asked| asked.kept_reason.clone())
    }

    /// Losses that were accepted only because an operator asked for it, one line per query.
    pub(crate) fn accepted_shrinks(&self) -> Vec<String> {
        self.result_lines(|asked| asked.accepted_shrink.clone())
    }

    /// Collects one line per query.
    fn result_lines(&self, of: impl Fn(&QueryResult) -> Option<String>) -> Vec<String> {
        let Some(loaded) = self.loaded.get() else {
            return Vec::new();
        };
        let book = PeerSource::lock_peer_list(loaded);
        book.results().values().filter_map(of).collect()
    }

    /// Why a query could not be answered at all.
    pub(crate) fn into_query_error(self) -> Option<PeerQueryError> {
        let loaded = self.loaded.into_inner()?;
        let why = PeerSource::lock_peer_list(&loaded)
            .query_error()?
            .to_owned();
        Some(match loaded.store_error {
            Some(error) => PeerQueryError::Store(error),
            None => PeerQueryError::Lists(why),
        })
    }
}

/// Replaces each peer that equals a known one by that one, so that it is in memory once. Returns the size of
/// the others, in bytes.
fn reuse_known(peers: &mut [Arc<Peer>], known: &LastGoodLists) -> usize {
    let mut by_name: BTreeMap<&str, Vec<&Arc<Peer>>> = BTreeMap::new();
    for peer in known.nodes() {
        by_name.entry(&peer.name).or_default().push(peer);
    }
    let mut new = 0;
    for peer in peers {
        let same = by_name.get(peer.name.as_str());
        match same.and_then(|all| all.iter().find(|one| **one == peer)) {
            Some(one) => *peer = Arc::clone(one),
            None => new += peer.memory_size(),
        }
    }
    new
}
