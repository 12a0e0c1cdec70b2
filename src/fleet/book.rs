//! What `nodes(…)` answers, and the guard in front of it: an answer that is empty or much smaller than
//! before is not taken.
//!
//! "Before" is the last hour and not only the last answer: when all hosts lose their credentials at
//! once, they leave one by one as their heartbeats run out, and no single step of that is large.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::cache::{Answer, Refused};
use super::{Peer, Query};

/// How far back an answer is held against.
const WINDOW: Duration = Duration::from_secs(3600);

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

/// Answers `nodes(…)`.
#[derive(Debug, Clone)]
pub struct Book {
    /// Nodes of the settings.
    fixed: Vec<Peer>,
    /// Nodes of the store; `None`: nobody was asked, or nobody answered.
    seen: Option<Vec<Peer>>,
    /// The last good answers.
    known: BTreeMap<String, Answer>,
    guard: Guard,
    asked: BTreeMap<String, Asked>,
    /// Why the store did not answer, if it was asked and did not.
    lost: Option<String>,
    /// A question has no answer at all.
    failed: bool,
}

/// A question that a template asked, and what it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub answer: Answer,
    /// Why the last good answer was given instead of a new one.
    pub kept: Option<String>,
}

impl Book {
    pub fn new(
        fixed: Vec<Peer>,
        seen: Option<Vec<Peer>>,
        known: BTreeMap<String, Answer>,
        guard: Guard,
    ) -> Book {
        Book {
            fixed,
            seen,
            known,
            guard,
            asked: BTreeMap::new(),
            lost: None,
            failed: false,
        }
    }

    /// The same, of a store that did not answer.
    pub(super) fn without_store(self, why: &str) -> Book {
        Book {
            lost: Some(why.to_owned()),
            ..self
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// The nodes that were asked for, by name. What the settings say of a node counts more than what it
    /// says itself. An error: the store did not answer, and never did to this question.
    pub fn nodes(&mut self, query: &Query) -> Result<Vec<Peer>, String> {
        let words = query.words();
        if let Some(why) = &self.lost
            && !self.known.contains_key(&words)
        {
            self.failed = true;
            return Err(format!(
                "{words}: {why}; this host has no last good list yet"
            ));
        }
        let asked = match self.asked.remove(&words) {
            Some(asked) => asked,
            None => self.judge(query, &words),
        };
        let fixed = self.fixed.iter().filter(|peer| query.matches(peer));
        let mut nodes: BTreeMap<&str, &Peer> = BTreeMap::new();
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

    fn judge(&self, query: &Query, words: &str) -> Asked {
        let last = self.known.get(words);
        let matching = |peers: &[Peer]| -> Vec<Peer> {
            let peers = peers.iter().filter(|peer| query.matches(peer));
            peers.cloned().collect()
        };
        let Some(seen) = &self.seen else {
            return self.recall(last, words);
        };
        let fresh = matching(seen);
        let Some(last) = last.filter(|_| !self.guard.accept) else {
            return Asked {
                answer: self.good(fresh, None),
                kept: None,
            };
        };
        let before = self.before(last);
        let empty = fresh.is_empty() && !last.nodes.is_empty();
        let least = 100 - usize::from(self.guard.max_shrink.min(100));
        if !empty && fresh.len() * 100 >= before * least {
            return Asked {
                answer: self.good(fresh, Some(last)),
                kept: None,
            };
        }
        let since = last.refused.as_ref().map_or(self.guard.now, |r| r.since);
        let size = fresh.len();
        let kept = format!(
            "{words}: there is {} in the store where there were {before} within the last hour, and `max_shrink` is {} %: the last good list stays ({}); if that is how it is meant: `trueup converge --accept-shrink`",
            counted(size),
            self.guard.max_shrink,
            named(&last.nodes)
        );
        Asked {
            answer: Answer {
                refused: Some(Refused { size, since }),
                ..last.clone()
            },
            kept: Some(kept),
        }
    }

    /// What was last good.
    fn recall(&self, last: Option<&Answer>, words: &str) -> Asked {
        let Some(last) = last else {
            return Asked {
                answer: self.good(Vec::new(), None),
                kept: None,
            };
        };
        let stays = format!("the last good list stays ({})", named(&last.nodes));
        let refused = |refused: &Refused| {
            let since = refused.since.strftime("%F %T UTC");
            let size = counted(refused.size);
            format!("{words}: a list of {size} is refused since {since}, {stays}")
        };
        let kept = match &self.lost {
            Some(why) => Some(format!("{words}: {why}; {stays}")),
            None => last.refused.as_ref().map(refused),
        };
        Asked {
            answer: last.clone(),
            kept,
        }
    }

    fn good(&self, nodes: Vec<Peer>, last: Option<&Answer>) -> Answer {
        let mut sizes = last.map_or_else(Vec::new, |last| last.sizes.clone());
        if sizes.last().is_none_or(|(_, size)| *size != nodes.len()) {
            sizes.push((self.guard.now, nodes.len()));
        }
        // One that ended before the window is of no use any more.
        while sizes.get(1).is_some_and(|(ended, _)| self.is_over(*ended)) {
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
        let ended = last.sizes.iter().skip(1).map(|(at, _)| Some(*at));
        let ended = ended.chain([None]);
        let within = last.sizes.iter().zip(ended);
        let within = within.filter(|(_, ended)| ended.is_none_or(|ended| !self.is_over(ended)));
        let most = within.map(|((_, size), _)| *size).max().unwrap_or(0);
        most.max(last.nodes.len())
    }

    fn is_over(&self, ended: Timestamp) -> bool {
        Duration::try_from(self.guard.now.duration_since(ended)).is_ok_and(|gone| gone > WINDOW)
    }
}

fn counted(nodes: usize) -> String {
    match nodes {
        0 => "no node".into(),
        1 => "1 node".into(),
        nodes => format!("{nodes} nodes"),
    }
}

/// `a, b, c and 3 more`.
pub(super) fn named(nodes: &[Peer]) -> String {
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
