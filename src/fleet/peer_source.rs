//! Loads the peers for templates: at the first query, once per pass.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::cache::RecordCache;
use super::ec2::{Ec2Api, InstanceList, Instances, KnownHosts};
use super::last_good::LastGoodLists;
use super::liveness::StoreLiveness;
use super::peer_list::{ObservedNodes, PeerList, QueryResult, ShrinkGuard};
use super::snapshot::{MAX_MEMORY, too_much_memory};
use super::{NodeRow, Peer, Query, Snapshot, take_snapshot};
use crate::ports::Host;
use crate::ports::root::RootError;
use crate::ports::store::{Store, StoreError};
use crate::settings::{FleetSettings, Settings};

/// Maximum number of lines about records in a report.
const MAX_PROBLEM_LINES: usize = 5;

/// Where the peers of this host come from, and the peers themselves once a role queries them.
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
    /// Lists the instances of EC2.
    instances: &'a dyn Instances,
    /// `None` until the first query.
    pub loaded: Option<LoadedPeers>,
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

/// The peers of a pass, and the answers to the queries of its roles.
pub(crate) struct LoadedPeers {
    peer_list: PeerList,
    cache_before: RecordCache,
    cache: RecordCache,
    /// As in the file; `None` if it cannot be read.
    last_good: Option<LastGoodLists>,
    liveness: Option<StoreLiveness>,
    /// `None`: the settings name none.
    instances: Option<InstanceList>,
    problems: Vec<String>,
    store_error: Option<StoreError>,
}

/// What the store reports.
struct Observation {
    nodes: ObservedNodes,
    cache: RecordCache,
    /// `None` if the store was not queried, or has not answered this host yet.
    liveness: Option<StoreLiveness>,
    instances: Option<InstanceList>,
    /// Problems of records, one line each.
    problems: Vec<String>,
    /// Why the store gave no answer, or only a partial one.
    store_error: Option<StoreError>,
}

impl<'a> PeerSource<'a> {
    fn new(settings: &'a Settings, origin: Origin<'a>) -> PeerSource<'a> {
        PeerSource {
            fleet: &settings.fleet,
            environment: &settings.environment,
            store_name: &settings.store.url,
            origin,
            accept_shrink: false,
            own_node: (String::new(), Vec::new()),
            instances: &Ec2Api,
            loaded: None,
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
    pub(crate) fn with_instances(self, instances: &'a dyn Instances) -> PeerSource<'a> {
        PeerSource { instances, ..self }
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

    /// Loads the peers unless they are loaded, so the store is queried at most once.
    pub(crate) fn load(&mut self) -> &mut LoadedPeers {
        let loaded = self.loaded.take().unwrap_or_else(|| self.load_peers());
        self.loaded.insert(loaded)
    }

    fn load_peers(&self) -> LoadedPeers {
        let host = self.host();
        let (store, environment) = (self.store_name, self.environment);
        let lists = host.map(|host| LastGoodLists::load(host, store, environment));
        let (last_good, lists_error) = match lists.transpose() {
            Ok(lists) => (Some(lists.unwrap_or_else(|| self.no_lists())), None),
            // With `--accept-shrink` the guard needs no baseline.
            Err(error) => (None, Some(error).filter(|_| !self.accept_shrink)),
        };
        let baseline = last_good.clone().unwrap_or_else(|| self.no_lists());
        let cache = host.map(|host| RecordCache::load(&host.root, store, environment));
        let mut cache = cache.unwrap_or_else(|| RecordCache::empty(store, environment));
        cache.other_memory = baseline.memory_size();
        let observed = match (self.origin, lists_error) {
            (_, Some(error)) => Observation::not_queried(ObservedNodes::Unavailable(error), &cache),
            (Origin::Store(host, store), None) => self.observe(host, store, &cache, &baseline),
            _ => Observation::not_queried(ObservedNodes::NotAsked, &cache),
        };
        LoadedPeers {
            peer_list: PeerList::new(self.static_peers(), observed.nodes, baseline, self.guard()),
            cache_before: cache,
            cache: observed.cache,
            last_good,
            liveness: observed.liveness,
            instances: observed.instances,
            problems: observed.problems,
            store_error: observed.store_error,
        }
    }

    fn host(&self) -> Option<&'a Host> {
        match self.origin {
            #[cfg(test)]
            Origin::SettingsOnly => None,
            Origin::LastKnown(host) | Origin::Store(host, _) => Some(host),
        }
    }

    fn no_lists(&self) -> LastGoodLists {
        LastGoodLists::empty(self.store_name, self.environment)
    }

    fn static_peers(&self) -> Vec<Arc<Peer>> {
        let nodes = self.fleet.static_nodes.iter();
        let peers = nodes.filter_map(|(name, node)| Peer::from_settings(name, node));
        peers.map(Arc::new).collect()
    }

    fn guard(&self) -> ShrinkGuard {
        let now = self.host().map(|host| host.clock.now());
        ShrinkGuard {
            max_shrink: self.fleet.max_shrink,
            accept_shrink: self.accept_shrink,
            now: now.unwrap_or(jiff::Timestamp::UNIX_EPOCH),
        }
    }

    fn observe(
        &self,
        host: &Host,
        store: &dyn Store,
        cache: &RecordCache,
        baseline: &LastGoodLists,
    ) -> Observation {
        let before = StoreLiveness::load(host, self.store_name, self.environment);
        let instances = InstanceList::load(&self.fleet.ec2, host, self.instances);
        let mut updated = cache.clone();
        let known = (baseline, before.as_ref(), instances.as_ref());
        match self.query_store(store, &mut updated, known) {
            Ok((snapshot, peers, liveness)) => {
                let unread = snapshot.unread.as_ref().map(ToString::to_string);
                let missing = unread.or_else(|| instances.as_ref()?.error.clone());
                Observation {
                    nodes: match missing {
                        Some(why) => ObservedNodes::Partial(peers, why),
                        None => ObservedNodes::Complete(peers),
                    },
                    cache: updated,
                    liveness: Some(liveness),
                    instances,
                    problems: snapshot.problems,
                    store_error: snapshot.unread.map(|unread| unread.first),
                }
            }
            // Discards what the query added to the cache before it failed.
            Err(error) => {
                let nodes = ObservedNodes::Unavailable(error.to_string());
                Observation {
                    liveness: before.map(StoreLiveness::after_failure),
                    instances,
                    store_error: Some(error),
                    ..Observation::not_queried(nodes, cache)
                }
            }
        }
    }

    /// Queries the store for the nodes that are alive and serve.
    fn query_store(
        &self,
        store: &dyn Store,
        cache: &mut RecordCache,
        (baseline, liveness, instances): (
            &LastGoodLists,
            Option<&StoreLiveness>,
            Option<&InstanceList>,
        ),
    ) -> Result<(Snapshot, Vec<Arc<Peer>>, StoreLiveness), StoreError> {
        let gone_after = self.fleet.gone_after();
        let mut snapshot = take_snapshot(store, self.environment, gone_after, cache)?;
        let scope = (self.store_name, self.environment);
        let liveness = StoreLiveness::after_answer(liveness, scope, snapshot.now, gone_after);
        let alive = self.live_rows(&snapshot, baseline, &liveness);
        let mut peers = self.serving_peers(&mut snapshot, &alive);
        if let Some(instances) = instances {
            let named = self.fleet.static_nodes.values();
            let hosts = KnownHosts {
                own: &self.own_node.1,
                named: named.flat_map(|node| node.addresses.clone()).collect(),
                alive,
            };
            instances.merge(&mut snapshot, &mut peers, &hosts);
        }
        let new_memory = baseline.reuse_known(&mut peers);
        match cache.memory_size() + new_memory > MAX_MEMORY {
            true => Err(too_much_memory(store, self.environment)),
            false => Ok((snapshot, peers, liveness)),
        }
    }

    /// The nodes that are alive. Silence of a listed one counts only if the store answered for all of `gone_after`.
    fn live_rows(
        &self,
        snapshot: &Snapshot,
        baseline: &LastGoodLists,
        liveness: &StoreLiveness,
    ) -> Vec<NodeRow> {
        let gone_after = self.fleet.gone_after();
        let silence_counts = liveness.answered_for() >= gone_after;
        let listed = baseline.lists.values().flat_map(|list| &list.nodes);
        let listed: BTreeSet<&str> = listed.map(|peer| peer.name.as_str()).collect();
        let alive = snapshot.rows.iter().filter(|row| {
            let is_listed = listed.contains(row.node.as_str());
            row.silent_for(snapshot.now) <= gone_after || (is_listed && !silence_counts)
        });
        alive.cloned().collect()
    }

    /// The nodes among these that serve.
    fn serving_peers(&self, snapshot: &mut Snapshot, alive: &[NodeRow]) -> Vec<Arc<Peer>> {
        let alive = alive.iter();
        let serving = alive.filter_map(|row| Peer::from_record(&row.record));
        let (own_name, own_addresses) = &self.own_node;
        let mut address_problems = Vec::new();
        let peers = serving.filter_map(|peer| {
            if peer.name == *own_name {
                return Some(peer);
            }
            let (peer, problem) = peer.without_addresses(own_addresses);
            address_problems.extend(problem);
            peer
        });
        let peers = peers.map(Arc::new).collect();
        snapshot.problems.extend(address_problems);
        peers
    }

    /// Saves the state for the next pass. `acted_on`: the pass acts on the answers, so they become the last
    /// good lists.
    pub(crate) fn save(&self, acted_on: bool) -> Result<(), RootError> {
        let (Some(loaded), Origin::Store(host, _)) = (&self.loaded, self.origin) else {
            return Ok(());
        };
        if let Some(liveness) = &loaded.liveness {
            liveness.save(host)?;
        }
        if let Some(instances) = &loaded.instances {
            instances.save(host)?;
        }
        if acted_on {
            let results = loaded.peer_list.results().iter();
            let mut lists = self.no_lists();
            lists.lists = results
                .map(|(expression, result)| (expression.clone(), result.list.clone()))
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
        let Some(loaded) = &self.loaded else {
            return Vec::new();
        };
        let problems = &loaded.problems;
        let mut lines: Vec<String> = problems.iter().take(MAX_PROBLEM_LINES).cloned().collect();
        if problems.len() > MAX_PROBLEM_LINES {
            let more = problems.len() - MAX_PROBLEM_LINES;
            lines.push(format!(
                "{more} more records like these: `trueup fleet` lists them"
            ));
        }
        lines
    }

    /// Why a last good list stays in force, one line per query.
    pub(crate) fn kept_reasons(&self) -> Vec<String> {
        self.result_lines(|result| result.kept_reason.clone())
    }

    /// Losses that were accepted only because an operator asked for it, one line per query.
    pub(crate) fn accepted_shrinks(&self) -> Vec<String> {
        self.result_lines(|result| result.accepted_shrink.clone())
    }

    /// Collects one line per query.
    fn result_lines(&self, line: impl Fn(&QueryResult) -> Option<String>) -> Vec<String> {
        let loaded = self.loaded.iter();
        let results = loaded.flat_map(|loaded| loaded.peer_list.results().values());
        results.filter_map(line).collect()
    }

    /// Why a query could not be answered at all.
    pub(crate) fn into_query_error(self) -> Option<PeerQueryError> {
        let loaded = self.loaded?;
        let query_error = loaded.peer_list.query_error()?;
        Some(match loaded.store_error {
            Some(error) => PeerQueryError::Store(error),
            None => PeerQueryError::Lists(query_error.to_owned()),
        })
    }
}

impl LoadedPeers {
    /// Answers a query of a template.
    pub(crate) fn nodes(&mut self, query: &Query) -> Result<Vec<Arc<Peer>>, String> {
        self.peer_list.nodes(query)
    }
}

impl Observation {
    fn not_queried(nodes: ObservedNodes, cache: &RecordCache) -> Observation {
        Observation {
            nodes,
            cache: cache.clone(),
            liveness: None,
            instances: None,
            problems: Vec::new(),
            store_error: None,
        }
    }
}
