//! What `nodes(…)` answers, and the guard in front of it: an answer that is empty or much smaller than
//! before is not taken. Nobody leaves the list then; who comes, or moves, is taken up all the same.
//!
//! "Before" is the last hour and not only the last answer: when all hosts lose their credentials at
//! once, they leave one by one as their heartbeats run out, and no single step of that is large. While an
//! answer is refused it is the hour before that: a refusal does not end by being waited for.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::last_good::{self, LastGoodLists, NodeList, RefusedList};
use super::{Peer, Query};

/// How far back an answer is held against.
const SHRINK_WINDOW: Duration = Duration::from_secs(3600);

/// What somebody can do who knows that nodes are gone.
const ACCEPT_HINT: &str = "; if that is how it is meant: `trueup converge --accept-shrink`";

/// What is taken for an answer.
#[derive(Debug, Clone, Copy)]
pub struct ShrinkGuard {
    /// In percent.
    pub max_shrink: u8,
    /// Somebody said that the list is as it is.
    pub accept_shrink: bool,
    /// By this host's clock.
    pub now: Timestamp,
}

/// What the store says.
#[derive(Debug, Clone)]
pub(super) enum ObservedNodes {
    /// It was not asked.
    NotAsked,
    /// It did not answer, and why.
    Unavailable(String),
    /// These, and more that could not be read, and why.
    Partial(Vec<Arc<Peer>>, String),
    Complete(Vec<Arc<Peer>>),
}

/// Answers `nodes(…)`.
#[derive(Debug, Clone)]
pub struct PeerList {
    /// Nodes of the settings.
    static_nodes: Vec<Arc<Peer>>,
    /// Nodes of the store.
    observed: ObservedNodes,
    /// The last good answers.
    last_good: LastGoodLists,
    guard: ShrinkGuard,
    results: BTreeMap<String, QueryResult>,
    /// What answers may weigh yet, with all that is known, and the nodes that are counted.
    memory_left: usize,
    counted_nodes: HashSet<usize>,
    /// Why a question has no answer at all.
    query_error: Option<String>,
}

/// A question that a template asked, and what it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryResult {
    pub list: NodeList,
    /// Why the last good answer was given instead of a new one.
    pub kept_reason: Option<String>,
    /// What was taken only because somebody said so.
    pub accepted_shrink: Option<String>,
}

impl PeerList {
    pub(super) fn new(
        fixed: Vec<Arc<Peer>>,
        seen: ObservedNodes,
        known: LastGoodLists,
        guard: ShrinkGuard,
    ) -> PeerList {
        // Who takes the lists as they are keeps nothing of those that were.
        let (weight, counted) = match guard.accept_shrink {
            true => (0, HashSet::new()),
            false => (
                known.memory_size(),
                known.nodes().into_iter().map(pointer_id).collect(),
            ),
        };
        PeerList {
            memory_left: last_good::MAX_MEMORY.saturating_sub(weight),
            counted_nodes: counted,
            static_nodes: fixed,
            observed: seen,
            last_good: known,
            guard,
            results: BTreeMap::new(),
            query_error: None,
        }
    }

    /// Why a question has no answer at all.
    pub(super) fn query_error(&self) -> Option<&str> {
        self.query_error.as_deref()
    }

    /// The nodes that were asked for, by name. What the settings say of a node counts more than what it
    /// says itself. An error: the store did not answer, and never did to this question.
    pub fn nodes(&mut self, query: &Query) -> Result<Vec<Arc<Peer>>, String> {
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
            Some(asked) => asked,
            None => self.query_within_limit(query, &expression)?,
        };
        let fixed = self.static_nodes.iter().filter(|peer| query.matches(peer));
        let mut nodes: BTreeMap<&str, &Arc<Peer>> = BTreeMap::new();
        for peer in result.list.nodes.iter().chain(fixed) {
            nodes.insert(&peer.name, peer);
        }
        let nodes = nodes.into_values().cloned().collect();
        self.results.insert(expression, result);
        Ok(nodes)
    }

    /// Every question of this pass with what it was told.
    pub fn results(&self) -> &BTreeMap<String, QueryResult> {
        &self.results
    }

    /// Takes nothing that could not be kept: what is not known to the next pass is no guard for it.
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
        let weight = new.map(|peer| peer.memory_size()).sum::<usize>()
            + last_good::list_memory_size(expression, nodes);
        if weight <= self.memory_left {
            self.memory_left -= weight;
            self.counted_nodes.extend(nodes.iter().map(pointer_id));
            return Ok(result);
        }
        let most = last_good::MAX_MEMORY >> 20;
        let why = format!(
            "the lists of this host would take more than {most} MiB: there are more nodes in the store, or larger records, than a fleet has (`trueup fleet` shows them)"
        );
        match self
            .last_good
            .lists
            .get(expression)
            .filter(|_| !self.guard.accept_shrink)
        {
            Some(last) => Ok(QueryResult {
                kept_reason: Some(format!(
                    "{expression}: {why}; the last good list stays ({})",
                    format_names(&last.nodes)
                )),
                ..QueryResult::new(last.clone())
            }),
            None => {
                self.query_error = Some(why.clone());
                Err(format!(
                    "{expression}: {why}; no list of that size is taken"
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
            ObservedNodes::Partial(seen, why) => (seen, Some(why)),
            ObservedNodes::Complete(seen) => (seen, None),
        };
        let fresh = matching(observed);
        let Some(last) = last else {
            return QueryResult::new(self.new_list(fresh, None));
        };
        let (size, before) = (fresh.len(), self.largest_recent_size(last));
        let least = 100 - usize::from(self.guard.max_shrink.min(100));
        let shrunk = (size == 0 && before > 0) || size * 100 < before * least;
        let (why, remedy) = match unread {
            Some(why) => (why.clone(), ""),
            None if shrunk => {
                let max = self.guard.max_shrink;
                let why = format!(
                    "there is {} in the store where there were {before} within an hour, and `max_shrink` is {max} %",
                    format_count(size)
                );
                (why, ACCEPT_HINT)
            }
            None => return QueryResult::new(self.new_list(fresh, Some(last))),
        };
        if self.guard.accept_shrink {
            let accepted = format!(
                "{expression}: {why}; that is accepted: {}",
                format_names(&fresh)
            );
            return QueryResult {
                accepted_shrink: Some(accepted),
                ..QueryResult::new(self.new_list(fresh, None))
            };
        }
        let before = last.refused.as_ref();
        let answer = NodeList {
            nodes: merge_by_name(&last.nodes, fresh),
            sizes: last.sizes.clone(),
            refused: Some(RefusedList {
                size,
                since: before.map_or(self.guard.now, |refused| refused.since),
                why: unread.cloned(),
            }),
        };
        let stays = format_names(&answer.nodes);
        QueryResult {
            kept_reason: Some(format!(
                "{expression}: {why}: the last good list stays ({stays}){remedy}"
            )),
            ..QueryResult::new(answer)
        }
    }

    /// What was last good.
    fn last_good_result(&self, last: Option<&NodeList>, expression: &str) -> QueryResult {
        let Some(last) = last else {
            return QueryResult::new(self.new_list(Vec::new(), None));
        };
        let stays = format!("the last good list stays ({})", format_names(&last.nodes));
        let refused = |refused: &RefusedList| {
            let since = refused.since.strftime("%F %T UTC");
            match &refused.why {
                Some(why) => format!("{expression}: since {since} {why}: {stays}"),
                None => {
                    let size = format_count(refused.size);
                    format!(
                        "{expression}: a list of {size} is refused since {since}, {stays}{ACCEPT_HINT}"
                    )
                }
            }
        };
        let kept = match &self.observed {
            ObservedNodes::Unavailable(why) => Some(format!("{expression}: {why}; {stays}")),
            _ => last.refused.as_ref().map(refused),
        };
        QueryResult {
            kept_reason: kept,
            ..QueryResult::new(last.clone())
        }
    }

    fn new_list(&self, nodes: Vec<Arc<Peer>>, last: Option<&NodeList>) -> NodeList {
        let mut sizes = last.map_or_else(Vec::new, |last| last.sizes.clone());
        if sizes.last().is_none_or(|(_, size)| *size != nodes.len()) {
            sizes.push((self.guard.now, nodes.len()));
        }
        // One that ended before the window is of no use any more.
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

    /// The most nodes that the answer had within the window.
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
        let most = within.map(|((_, size), _)| *size).max();
        most.unwrap_or(last.nodes.len())
    }
}

impl QueryResult {
    fn new(answer: NodeList) -> QueryResult {
        QueryResult {
            list: answer,
            kept_reason: None,
            accepted_shrink: None,
        }
    }
}

/// Tells a node in memory from others.
fn pointer_id(peer: &Arc<Peer>) -> usize {
    Arc::as_ptr(peer).addr()
}

fn is_outside_window(ended: Timestamp, now: Timestamp) -> bool {
    Duration::try_from(now.duration_since(ended)).is_ok_and(|gone| gone > SHRINK_WINDOW)
}

/// Those that were listed and those that are there; of one that is both, what is there.
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
