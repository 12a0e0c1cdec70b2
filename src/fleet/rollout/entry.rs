//! An entry of the register: the way of one wanted sha through the hosts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::identity::{EntryId, Member};
use super::local_failure::LocalFailure;
use super::mutation::{Mutation, is_active};
use super::object::UnknownFields;
use crate::fleet::sanitize_line;

/// Failures that an entry keeps with their log tail.
const MAX_LOG_TAILS: usize = 5;

/// Failures that an entry keeps at all. More than these are counted only.
const MAX_FAILURES: usize = 100;

/// Where an entry is. Derived from what is recorded, so that the two cannot disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EntryState {
    /// Its hosts are not counted yet.
    Open,
    /// Waits for its canaries.
    Canary,
    Rolling,
    /// Nobody begins it before an operator has seen to it.
    Halted,
    Done,
    /// The manifest wants another sha.
    Superseded,
}

impl EntryState {
    pub(crate) fn word(self) -> &'static str {
        match self {
            EntryState::Open => "open",
            EntryState::Canary => "canary",
            EntryState::Rolling => "rolling",
            EntryState::Halted => "halted",
            EntryState::Done => "done",
            EntryState::Superseded => "superseded",
        }
    }
}

/// One wanted sha.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Entry {
    #[serde(flatten)]
    pub id: EntryId,
    /// By the clock of the host that opened it, for people.
    pub opened: Timestamp,
    pub opened_by: String,
    /// The publisher, if the manifest names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_by: Option<String>,
    /// The hosts of the app when they were counted; `None`: not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<HostCount>,
    /// Who began last to count them, for all hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counter: Option<Counter>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub canaries: Vec<Canary>,
    /// A host that served before is proven at the sha.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proven: bool,
    /// How often a quarantine of the sha was lifted.
    #[serde(default)]
    pub epoch: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<HostFailure>,
    /// Failures that count but are not listed, because there are too many.
    #[serde(default)]
    pub unlisted_failures: u32,
    /// Hosts that cannot take the sha for reasons of their own, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local_failures: Vec<LocalFailure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halt: Option<HaltRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<EntryEnd>,
    /// It was done, also if it is superseded now: the sha needs no canary when it is wanted again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub was_done: bool,
    /// An operator lets all hosts go without waiting for the canaries.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skips_canary: bool,
    /// An operator skipped `after` for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skips_after: bool,
    /// Hosts that it does not wait for, by an operator's decision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// How many live hosts have the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct HostCount {
    /// Those that the rollout waits for.
    pub hosts: u32,
    /// All that served a release.
    pub serving: u32,
}

/// A host that counts the hosts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Counter {
    pub node: String,
    /// The first is 1.
    pub number: u32,
}

/// A host that goes first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Canary {
    pub node: String,
    pub passed: bool,
}

/// A failure of the sha on a host. Its key is the member and the attempt: a write whose answer was lost is repeated,
/// and must not count twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct HostFailure {
    #[serde(flatten)]
    pub member: Member,
    pub attempt: u64,
    /// One line.
    pub reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub log_tail: String,
}

/// Why nobody begins the entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct HaltRecord {
    pub cause: HaltCause,
    /// The host that halted it.
    pub by: String,
    /// One line.
    pub reason: String,
    /// The step that failed, if it was one that one host runs for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum HaltCause {
    /// The sha failed on too many hosts, and is quarantined.
    Quarantined,
    /// A host is unhealthy with the release before as well, so it is not the sha.
    Environment,
    /// No host that serves is a canary, or none is left.
    NoCanary,
    /// A step that one host runs for all failed.
    OnceStep,
    /// A cause that a newer trueup knows.
    #[serde(other)]
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EntryEnd {
    Done,
    Superseded,
}

impl Entry {
    pub(super) fn new(id: EntryId, opened: Timestamp, opened_by: &str) -> Entry {
        Entry {
            id,
            opened,
            opened_by: opened_by.to_owned(),
            published_by: None,
            count: None,
            counter: Some(Counter {
                node: opened_by.to_owned(),
                number: 1,
            }),
            canaries: Vec::new(),
            proven: false,
            epoch: 0,
            failures: Vec::new(),
            unlisted_failures: 0,
            local_failures: Vec::new(),
            halt: None,
            end: None,
            was_done: false,
            skips_canary: false,
            skips_after: false,
            ignored: Vec::new(),
            unknown: UnknownFields::default(),
        }
    }

    pub(crate) fn state(&self) -> EntryState {
        match (self.end, &self.halt, self.count) {
            (Some(EntryEnd::Superseded), ..) => EntryState::Superseded,
            (Some(EntryEnd::Done), ..) => EntryState::Done,
            (None, Some(_), _) => EntryState::Halted,
            (None, None, None) => EntryState::Open,
            (None, None, Some(_)) if !self.canaries_passed() => EntryState::Canary,
            (None, None, Some(_)) => EntryState::Rolling,
        }
    }

    /// It is not over.
    pub(crate) fn is_open(&self) -> bool {
        self.end.is_none()
    }

    /// The manifest wants another sha.
    pub(crate) fn is_superseded(&self) -> bool {
        self.end == Some(EntryEnd::Superseded)
    }

    /// How often a host has begun to count the hosts.
    pub(super) fn counters(&self) -> u32 {
        self.counter.as_ref().map_or(0, |counter| counter.number)
    }

    /// Whether this host began last to count the hosts.
    pub(super) fn is_counted_by(&self, node: &str) -> bool {
        let counter = self.counter.as_ref();
        counter.is_some_and(|counter| counter.node == node)
    }

    pub(crate) fn canaries_passed(&self) -> bool {
        self.skips_canary || self.canaries.iter().all(|canary| canary.passed)
    }

    pub(crate) fn is_canary(&self, node: &str) -> bool {
        self.canaries.iter().any(|canary| canary.node == node)
    }

    /// It is a canary that has not passed.
    pub(crate) fn is_waiting_for(&self, node: &str) -> bool {
        let mut canaries = self.canaries.iter();
        canaries.any(|canary| canary.node == node && !canary.passed)
    }

    /// The number of failures that count.
    pub(crate) fn failure_count(&self) -> usize {
        self.failures.len() + self.unlisted_failures as usize
    }

    /// Adds a failure, unless it is known already. Returns whether it was added.
    pub(super) fn add_failure(&mut self, mut failure: HostFailure) -> bool {
        let is_same = |known: &HostFailure| {
            (&known.member, known.attempt) == (&failure.member, failure.attempt)
        };
        let is_known = self.failures.iter().any(is_same);
        if is_known && !is_active(Mutation::FailureWithoutKey) {
            return false;
        }
        if self.failures.len() >= MAX_FAILURES {
            self.unlisted_failures = self.unlisted_failures.saturating_add(1);
            return true;
        }
        if self.failures.len() >= MAX_LOG_TAILS {
            failure.log_tail.clear();
        }
        self.failures.push(failure);
        true
    }

    /// Leaves only what an ended entry is still asked for.
    pub(super) fn shrink(&mut self) {
        self.counter = None;
        self.canaries.clear();
        self.failures.clear();
        self.unlisted_failures = 0;
        self.local_failures.clear();
        self.ignored.clear();
    }
}

impl HaltRecord {
    pub(super) fn new(cause: HaltCause, by: &str, reason: &str) -> HaltRecord {
        HaltRecord {
            cause,
            by: by.to_owned(),
            reason: sanitize_line(reason),
            step: None,
        }
    }

    /// The step of an entry failed.
    pub(super) fn of_step(step: &str, by: &str) -> HaltRecord {
        let reason = format!("the step `{step}`, which one host runs for all, failed");
        HaltRecord {
            step: Some(step.to_owned()),
            ..HaltRecord::new(HaltCause::OnceStep, by, &reason)
        }
    }
}
