//! Answers `nodes(…)` behind the shrink guard, which refuses an answer that is empty or much smaller than
//! before. While it refuses, no node leaves the list; new and changed nodes still come in.
//!
//! "Before" is the last hour and not only the last answer: when all hosts lose their credentials at once,
//! their heartbeats expire one by one, and no single step is large. During a refusal it is the hour before
//! the refusal began, so a refusal does not end by waiting.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::last_good::{self, LastGoodLists, NodeList, RefusedList};
use super::{Peer, Query};

/// How far back the guard compares sizes.
const SHRINK_WINDOW: Duration = Duration::from_secs(3600);

/// Hint for an operator who knows that the nodes are gone.
const ACCEPT_HINT: &str = "; if this is intended: `trueup converge --accept-shrink`";

/// The limits that decide which answers the guard accepts.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShrinkGuard {
    /// Largest accepted loss, in percent.
    pub max_shrink: u8,
    /// An operator accepts the list as it is (`--accept-shrink`).
    pub accept_shrink: bool,
    /// This host's time.
    pub now: Timestamp,
}

/// The nodes that the store reports.
#[derive(Debug, Clone)]
pub(super) enum ObservedNodes {
    /// This pass did not query the store.
    NotAsked,
    /// The store did not answer, with the reason.
    Unavailable(String),
    /// Some records could not be read, with the reason.
    Partial(Vec<Arc<Peer>>, String),
    Complete(Vec<Arc<Peer>>),
}

/// Answers `nodes(…)`.
#[derive(Debug, Clone)]
pub(crate) struct PeerList {
    /// Nodes from the settings.
    static_nodes: Vec<Arc<Peer>>,
    /// Nodes from the store.
    observed: ObservedNodes,
    last_good: LastGoodLists,
    guard: ShrinkGuard,
    results: BTreeMap<String, QueryResult>,
    /// Memory left for further answers, in bytes, and the nodes (by [`pointer_id`]) that are already counted.
    memory_left: usize,
    counted_nodes: HashSet<usize>,
    /// Why a query could not be answered at all.
    query_error: Option<String>,
}

/// The answer to a query of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueryResult {
    pub list: NodeList,
    /// Why the last good list was returned instead of a new one.
    pub kept_reason: Option<String>,
    /// The loss that was accepted only because an operator asked for it.
    pub accepted_shrink: Option<String>,
}

impl PeerList {
    pub(super) fn new(
        static_nodes: Vec<Arc<Peer>>,
        observed: ObservedNodes,
        last_good: LastGoodLists,
        guard: ShrinkGuard,
    ) -> PeerList {
        // With `--accept-shrink` the old lists are dropped, so they take no memory.
        let (memory, counted_nodes) = match guard.accept_shrink {
            true => (0, HashSet::new()),
            false => (
                last_good.memory_size(),
                last_good.nodes().into_iter().map(pointer_id).collect(),
            ),
        };
        PeerList {
            memory_left: last_good::MAX_MEMORY.saturating_sub(memory),
            counted_nodes,
            static_nodes,
            observed,
            last_good,
            guard,
            results: BTreeMap::new(),
            query_error: None,
        }
    }

    /// Why a query could not be answered at all.
    pub(super) fn query_error(&self) -> Option<&str> {
        self.query_error.as_deref()
    }

    /// The nodes that match, by name. A node in the settings overrides the record of the same name. Fails if
    /// the store did not answer (or only in part) and this host has no last good list for the query.
    pub(crate) fn nodes(&mut self, query: &Query) -> Result<Vec<Arc<Peer>>, String> {
        let expression = query.to_expression();
        let missing = match &self.observed {
            ObservedNodes::Unavailable(why) => Some(why),
            ObservedNodes::Partial(_, why) if !self.guard.accept_shrink => Some(why),
            _ => None,
        };
        if let Some(why) = missing
            && !self.last_good.lists.contains_key(&expression)
        {
            self.query_error = Some(why.clone());
            return Err(format!(
                "{expression}: {why}; this host has no last good list yet"
            ));
        }
        let result = match self.results.remove(&expression) {
            Some(result) => result,
            None => self.query_within_limit(query, &expression)?,
        };
        let static_nodes = self.static_nodes.iter();
        let static_nodes = static_nodes.filter(|peer| query.matches(peer));
        let mut nodes: BTreeMap<&str, &Arc<Peer>> = BTreeMap::new();
        for peer in result.list.nodes.iter().chain(static_nodes) {
            nodes.insert(&peer.name, peer);
        }
        let nodes = nodes.into_values().cloned().collect();
        self.results.insert(expression, result);
        Ok(nodes)
    }

    /// Every query of this pass with its answer.
    pub(crate) fn results(&self) -> &BTreeMap<String, QueryResult> {
        &self.results
    }

    /// Refuses an answer too large to be saved: a list that the next pass does not know cannot guard it.
    fn query_within_limit(
        &mut self,
        query: &Query,
        expression: &str,
    ) -> Result<QueryResult, String> {
        let result = self.apply_shrink_guard(query, expression);
        let nodes = &result.list.nodes;
        let new = nodes
            .iter()
            .filter(|peer| !self.counted_nodes.contains(&pointer_id(peer)));
        let memory = new.map(|peer| peer.memory_size()).sum::<usize>()
            + last_good::list_memory_size(expression, nodes);
        if memory <= self.memory_left {
            self.memory_left -= memory;
            self.counted_nodes.extend(nodes.iter().map(pointer_id));
            return Ok(result);
        }
        let max_mib = last_good::MAX_MEMORY >> 20;
        let why = format!(
            "the lists of this host would take more than {max_mib} MiB: the store has more nodes, or larger records, than a real fleet (`trueup fleet` shows them)"
        );
        match self
            .last_good
            .lists
            .get(expression)
            .filter(|_| !self.guard.accept_shrink)
        {
            Some(last) => Ok(QueryResult {
                kept_reason: Some(format!(
                    "{expression}: {why}; keeping the last good list ({})",
                    format_names(&last.nodes)
                )),
                ..QueryResult::new(last.clone())
            }),
            None => {
                self.query_error = Some(why.clone());
                Err(format!(
                    "{expression}: {why}; a list of that size is refused"
                ))
            }
        }
    }

    fn apply_shrink_guard(&self, query: &Query, expression: &str) -> QueryResult {
        let last = self.last_good.lists.get(expression);
        let matching = |peers: &[Arc<Peer>]| -> Vec<Arc<Peer>> {
            let peers = peers.iter().filter(|peer| query.matches(peer));
            peers.cloned().collect()
        };
        let (observed, unread) = match &self.observed {
            ObservedNodes::NotAsked | ObservedNodes::Unavailable(_) => {
                return self.last_good_result(last, expression);
            }
            ObservedNodes::Partial(nodes, why) => (nodes, Some(why)),
            ObservedNodes::Complete(nodes) => (nodes, None),
        };
        let fresh = matching(observed);
        let Some(last) = last else {
            return QueryResult::new(self.new_list(fresh, None));
        };
        let (size, before) = (fresh.len(), self.largest_recent_size(last));
        let min_percent = 100 - usize::from(self.guard.max_shrink.min(100));
        let shrunk = (size == 0 && before > 0) || size * 100 < before * min_percent;
        let (why, remedy) = match unread {
            Some(why) => (why.clone(), ""),
            None if shrunk => {
                let max = self.guard.max_shrink;
                let why = format!(
                    "the store lists {} where it listed {before} within the last hour, and `max_shrink` is {max} %",
                    format_count(size)
                );
                (why, ACCEPT_HINT)
            }
            None => return QueryResult::new(self.new_list(fresh, Some(last))),
        };
        if self.guard.accept_shrink {
            let accepted = format!("{expression}: {why}; accepted: {}", format_names(&fresh));
            return QueryResult {
                accepted_shrink: Some(accepted),
                ..QueryResult::new(self.new_list(fresh, None))
            };
        }
        let refusal = last.refused.as_ref();
        let list = NodeList {
            nodes: merge_by_name(&last.nodes, fresh),
            sizes: last.sizes.clone(),
            refused: Some(RefusedList {
                size,
                since: refusal.map_or(self.guard.now, |refusal| refusal.since),
                why: unread.cloned(),
            }),
        };
        let names = format_names(&list.nodes);
        QueryResult {
            kept_reason: Some(format!(
                "{expression}: {why}: keeping the last good list ({names}){remedy}"
            )),
            ..QueryResult::new(list)
        }
    }

    /// The last good list and why it stays.
    fn last_good_result(&self, last: Option<&NodeList>, expression: &str) -> QueryResult {
        let Some(last) = last else {
            return QueryResult::new(self.new_list(Vec::new(), None));
        };
        let keeping = format!("keeping the last good list ({})", format_names(&last.nodes));
        let refused = |refused: &RefusedList| {
            let since = refused.since.strftime("%F %T UTC");
            match &refused.why {
                Some(why) => format!("{expression}: since {since} {why}: {keeping}"),
                None => {
                    let size = format_count(refused.size);
                    format!(
                        "{expression}: a list of {size} is refused since {since}, {keeping}{ACCEPT_HINT}"
                    )
                }
            }
        };
        let kept_reason = match &self.observed {
            ObservedNodes::Unavailable(why) => Some(format!("{expression}: {why}; {keeping}")),
            _ => last.refused.as_ref().map(refused),
        };
        QueryResult {
            kept_reason,
            ..QueryResult::new(last.clone())
        }
    }

    fn new_list(&self, nodes: Vec<Arc<Peer>>, last: Option<&NodeList>) -> NodeList {
        let mut sizes = last.map_or_else(Vec::new, |last| last.sizes.clone());
        if sizes.last().is_none_or(|(_, size)| *size != nodes.len()) {
            sizes.push((self.guard.now, nodes.len()));
        }
        // Drop sizes that were replaced before the window began.
        while sizes
            .get(1)
            .is_some_and(|(ended, _)| is_outside_window(*ended, self.guard.now))
        {
            sizes.remove(0);
        }
        NodeList {
            nodes,
            sizes,
            refused: None,
        }
    }

    /// The largest size of the list within the window.
    fn largest_recent_size(&self, last: &NodeList) -> usize {
        let now = match &last.refused {
            Some(refused) => refused.since,
            None => self.guard.now,
        };
        let ended = last.sizes.iter().skip(1).map(|(at, _)| Some(*at));
        let ended = ended.chain([None]);
        let within = last.sizes.iter().zip(ended);
        let within =
            within.filter(|(_, ended)| ended.is_none_or(|ended| !is_outside_window(ended, now)));
        let largest = within.map(|((_, size), _)| *size).max();
        largest.unwrap_or(last.nodes.len())
    }
}

impl QueryResult {
    fn new(list: NodeList) -> QueryResult {
        QueryResult {
            list,
            kept_reason: None,
            accepted_shrink: None,
        }
    }
}

/// Identifies a shared node by its address in memory.
fn pointer_id(peer: &Arc<Peer>) -> usize {
    Arc::as_ptr(peer).addr()
}

fn is_outside_window(ended: Timestamp, now: Timestamp) -> bool {
    Duration::try_from(now.duration_since(ended)).is_ok_and(|age| age > SHRINK_WINDOW)
}

/// The nodes of both lists; a fresh node replaces a listed one of the same name.
fn merge_by_name(last: &[Arc<Peer>], fresh: Vec<Arc<Peer>>) -> Vec<Arc<Peer>> {
    let last = last.iter().cloned();
    let all = last.chain(fresh).map(|peer| (peer.name.clone(), peer));
    all.collect::<BTreeMap<String, Arc<Peer>>>()
        .into_values()
        .collect()
}

fn format_count(nodes: usize) -> String {
    match nodes {
        0 => "no node".into(),
        1 => "1 node".into(),
        nodes => format!("{nodes} nodes"),
    }
}

/// `a, b, c and 3 more`.
pub(super) fn format_names(nodes: &[Arc<Peer>]) -> String {
    let names: Vec<&str> = nodes
        .iter()
        .take(8)
        .map(|peer| peer.name.as_str())
        .collect();
    match nodes.len().saturating_sub(names.len()) {
        0 if names.is_empty() => "no node".into(),
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}
