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

use super::lists::{self, Answer, Lists, Refused};
use super::{Peer, Query};

/// How far back an answer is held against.
const WINDOW: Duration = Duration::from_secs(3600);

/// What somebody can do who knows that nodes are gone.
const REMEDY: &str = "; if that is how it is meant: `trueup converge --accept-shrink`";

/// What is taken for an answer.
#[derive(Debug, Clone, Copy)]
pub struct Guard {
    /// In percent.
    pub max_shrink: u8,
    /// Somebody said that the list is as it is.
    pub accept: bool,
    /// By this host's clock.
    pub now: Timestamp,
}

/// What the store says.
#[derive(Debug, Clone)]
pub(super) enum Seen {
    /// It was not asked.
    Nothing,
    /// It did not answer, and why.
    Lost(String),
    /// These, and more that could not be read, and why.
    Part(Vec<Arc<Peer>>, String),
    All(Vec<Arc<Peer>>),
}

/// Answers `nodes(…)`.
#[derive(Debug, Clone)]
pub struct Book {
    /// Nodes of the settings.
    fixed: Vec<Arc<Peer>>,
    /// Nodes of the store.
    seen: Seen,
    /// The last good answers.
    known: Lists,
    guard: Guard,
    asked: BTreeMap<String, Asked>,
    /// What answers may weigh yet, with all that is known, and the nodes that are counted.
    room: usize,
    counted: HashSet<usize>,
    /// Why a question has no answer at all.
    failed: Option<String>,
}

/// A question that a template asked, and what it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub answer: Answer,
    /// Why the last good answer was given instead of a new one.
    pub kept: Option<String>,
    /// What was taken only because somebody said so.
    pub accepted: Option<String>,
}

impl Book {
    pub(super) fn new(fixed: Vec<Arc<Peer>>, seen: Seen, known: Lists, guard: Guard) -> Book {
        // Who takes the lists as they are keeps nothing of those that were.
        let (weight, counted) = match guard.accept {
            true => (0, HashSet::new()),
            false => (
                known.weight(),
                known.nodes().into_iter().map(place).collect(),
            ),
        };
        Book {
            room: lists::MAX_WEIGHT.saturating_sub(weight),
            counted,
            fixed,
            seen,
            known,
            guard,
            asked: BTreeMap::new(),
            failed: None,
        }
    }

    /// Why a question has no answer at all.
    pub(super) fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// The nodes that were asked for, by name. What the settings say of a node counts more than what it
    /// says itself. An error: the store did not answer, and never did to this question.
    pub fn nodes(&mut self, query: &Query) -> Result<Vec<Arc<Peer>>, String> {
        let words = query.words();
        let missing = match &self.seen {
            Seen::Lost(why) => Some(why),
            Seen::Part(_, why) if !self.guard.accept => Some(why),
            _ => None,
        };
        if let Some(why) = missing
            && !self.known.answers.contains_key(&words)
        {
            self.failed = Some(why.clone());
            return Err(format!(
                "{words}: {why}; this host has no last good list yet"
            ));
        }
        let asked = match self.asked.remove(&words) {
            Some(asked) => asked,
            None => self.bounded(query, &words)?,
        };
        let fixed = self.fixed.iter().filter(|peer| query.matches(peer));
        let mut nodes: BTreeMap<&str, &Arc<Peer>> = BTreeMap::new();
        for peer in asked.answer.nodes.iter().chain(fixed) {
            nodes.insert(&peer.name, peer);
        }
        let nodes = nodes.into_values().cloned().collect();
        self.asked.insert(words, asked);
        Ok(nodes)
    }

    /// Every question of this pass with what it was told.
    pub fn asked(&self) -> &BTreeMap<String, Asked> {
        &self.asked
    }

    /// Takes nothing that could not be kept: what is not known to the next pass is no guard for it.
    fn bounded(&mut self, query: &Query, words: &str) -> Result<Asked, String> {
        let asked = self.judge(query, words);
        let nodes = &asked.answer.nodes;
        let new = nodes
            .iter()
            .filter(|peer| !self.counted.contains(&place(peer)));
        let weight = new.map(|peer| peer.weight()).sum::<usize>() + lists::places(words, nodes);
        if weight <= self.room {
            self.room -= weight;
            self.counted.extend(nodes.iter().map(place));
            return Ok(asked);
        }
        let most = lists::MAX_WEIGHT >> 20;
        let why = format!(
            "the lists of this host would take more than {most} MiB: there are more nodes in the store, or larger records, than a fleet has (`trueup fleet` shows them)"
        );
        match self.known.answers.get(words).filter(|_| !self.guard.accept) {
            Some(last) => Ok(Asked {
                kept: Some(format!(
                    "{words}: {why}; the last good list stays ({})",
                    named(&last.nodes)
                )),
                ..Asked::good(last.clone())
            }),
            None => {
                self.failed = Some(why.clone());
                Err(format!("{words}: {why}; no list of that size is taken"))
            }
        }
    }

    fn judge(&self, query: &Query, words: &str) -> Asked {
        let last = self.known.answers.get(words);
        let matching = |peers: &[Arc<Peer>]| -> Vec<Arc<Peer>> {
            let peers = peers.iter().filter(|peer| query.matches(peer));
            peers.cloned().collect()
        };
        let (seen, unread) = match &self.seen {
            Seen::Nothing | Seen::Lost(_) => return self.recall(last, words),
            Seen::Part(seen, why) => (seen, Some(why)),
            Seen::All(seen) => (seen, None),
        };
        let fresh = matching(seen);
        let Some(last) = last else {
            return Asked::good(self.good(fresh, None));
        };
        let (size, before) = (fresh.len(), self.before(last));
        let least = 100 - usize::from(self.guard.max_shrink.min(100));
        let shrunk = (size == 0 && before > 0) || size * 100 < before * least;
        let (why, remedy) = match unread {
            Some(why) => (why.clone(), ""),
            None if shrunk => {
                let max = self.guard.max_shrink;
                let why = format!(
                    "there is {} in the store where there were {before} within an hour, and `max_shrink` is {max} %",
                    counted(size)
                );
                (why, REMEDY)
            }
            None => return Asked::good(self.good(fresh, Some(last))),
        };
        if self.guard.accept {
            let accepted = format!("{words}: {why}; that is accepted: {}", named(&fresh));
            return Asked {
                accepted: Some(accepted),
                ..Asked::good(self.good(fresh, None))
            };
        }
        let before = last.refused.as_ref();
        let answer = Answer {
            nodes: joined(&last.nodes, fresh),
            sizes: last.sizes.clone(),
            refused: Some(Refused {
                size,
                since: before.map_or(self.guard.now, |refused| refused.since),
                why: unread.cloned(),
            }),
        };
        let stays = named(&answer.nodes);
        Asked {
            kept: Some(format!(
                "{words}: {why}: the last good list stays ({stays}){remedy}"
            )),
            ..Asked::good(answer)
        }
    }

    /// What was last good.
    fn recall(&self, last: Option<&Answer>, words: &str) -> Asked {
        let Some(last) = last else {
            return Asked::good(self.good(Vec::new(), None));
        };
        let stays = format!("the last good list stays ({})", named(&last.nodes));
        let refused = |refused: &Refused| {
            let since = refused.since.strftime("%F %T UTC");
            match &refused.why {
                Some(why) => format!("{words}: since {since} {why}: {stays}"),
                None => {
                    let size = counted(refused.size);
                    format!("{words}: a list of {size} is refused since {since}, {stays}{REMEDY}")
                }
            }
        };
        let kept = match &self.seen {
            Seen::Lost(why) => Some(format!("{words}: {why}; {stays}")),
            _ => last.refused.as_ref().map(refused),
        };
        Asked {
            kept,
            ..Asked::good(last.clone())
        }
    }

    fn good(&self, nodes: Vec<Arc<Peer>>, last: Option<&Answer>) -> Answer {
        let mut sizes = last.map_or_else(Vec::new, |last| last.sizes.clone());
        if sizes.last().is_none_or(|(_, size)| *size != nodes.len()) {
            sizes.push((self.guard.now, nodes.len()));
        }
        // One that ended before the window is of no use any more.
        while sizes
            .get(1)
            .is_some_and(|(ended, _)| is_over(*ended, self.guard.now))
        {
            sizes.remove(0);
        }
        Answer {
            nodes,
            sizes,
            refused: None,
        }
    }

    /// The most nodes that the answer had within the window.
    fn before(&self, last: &Answer) -> usize {
        let now = match &last.refused {
            Some(refused) => refused.since,
            None => self.guard.now,
        };
        let ended = last.sizes.iter().skip(1).map(|(at, _)| Some(*at));
        let ended = ended.chain([None]);
        let within = last.sizes.iter().zip(ended);
        let within = within.filter(|(_, ended)| ended.is_none_or(|ended| !is_over(ended, now)));
        let most = within.map(|((_, size), _)| *size).max();
        most.unwrap_or(last.nodes.len())
    }
}

impl Asked {
    fn good(answer: Answer) -> Asked {
        Asked {
            answer,
            kept: None,
            accepted: None,
        }
    }
}

/// Tells a node in memory from others.
fn place(peer: &Arc<Peer>) -> usize {
    Arc::as_ptr(peer).addr()
}

fn is_over(ended: Timestamp, now: Timestamp) -> bool {
    Duration::try_from(now.duration_since(ended)).is_ok_and(|gone| gone > WINDOW)
}

/// Those that were listed and those that are there; of one that is both, what is there.
fn joined(last: &[Arc<Peer>], fresh: Vec<Arc<Peer>>) -> Vec<Arc<Peer>> {
    let last = last.iter().cloned();
    let all = last.chain(fresh).map(|peer| (peer.name.clone(), peer));
    all.collect::<BTreeMap<String, Arc<Peer>>>()
        .into_values()
        .collect()
}

fn counted(nodes: usize) -> String {
    match nodes {
        0 => "no node".into(),
        1 => "1 node".into(),
        nodes => format!("{nodes} nodes"),
    }
}

/// `a, b, c and 3 more`.
pub(super) fn named(nodes: &[Arc<Peer>]) -> String {
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
