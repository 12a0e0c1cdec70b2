//! The manifest's entry for one app.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Deserialize;

use super::Sha;
use super::hold::{Hold, MAX_REASON_CHARS};
use super::note::{DeployNote, check_notes, deserialize_notes};
use super::rollout::{RolloutMode, RolloutSpec};
use crate::printable;
use crate::problem::Problem;
use crate::yaml::{self, Node, NodeKind};

/// The manifest's entry for one app, resolved for this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DesiredApp {
    /// What this host is to be at now: what the hold says, or the entry.
    pub sha: Sha,
    /// The sha of the entry, whatever the hold says.
    pub unheld_sha: Sha,
    /// The sha of the entry, whatever the hold and the overrides say.
    pub published_sha: Sha,
    /// The ref that the sha came from, for people.
    pub reference: Option<String>,
    pub by: Option<String>,
    /// When it was published, by that machine's clock.
    pub at: Option<Timestamp>,
    /// What somebody has to do by hand.
    pub notes: Vec<DeployNote>,
    /// A release to build ahead without activating it.
    pub next: Option<Sha>,
    /// The hold in force now; `None` if it has expired. It may name `sha`, and then keeps this host from nothing.
    pub hold: Option<Hold>,
    /// When an operator last asked for a rolling restart.
    pub restart_requested_at: Option<Timestamp>,
    /// An operator on this host goes over the hold in this pass.
    pub ignores_hold: bool,
    /// How the hosts of this environment take up a new sha.
    pub rollout: RolloutMode,
    /// What was wanted before `sha`; never equal to it.
    pub previous: Option<Sha>,
    /// Every sha that the manifest wants of this app on some host of the environment: that of the entry and those
    /// of all its overrides.
    pub wanted_shas: BTreeSet<Sha>,
}

/// The long form of an entry; the short form is just its sha.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AppEntry {
    pub sha: Sha,
    #[serde(
        rename = "ref",
        default,
        deserialize_with = "printable::deserialize_optional_line"
    )]
    pub reference: Option<String>,
    #[serde(default, deserialize_with = "printable::deserialize_optional_line")]
    pub by: Option<String>,
    /// When it was published.
    #[serde(default, deserialize_with = "yaml::deserialize_optional_time")]
    pub at: Option<Timestamp>,
    #[serde(default)]
    pub next: Option<Sha>,
    /// What was wanted before `sha`, by `trueup publish`.
    #[serde(default)]
    pub previous: Option<Sha>,
    #[serde(default)]
    pub hold: Option<Hold>,
    /// When an operator last asked for a rolling restart, by `trueup rollout restart`, and by that machine's clock. Like
    /// `restartedAt` of Kubernetes it only tells requests apart: a host owes the restart while its services were
    /// started with another one.
    #[serde(default, deserialize_with = "yaml::deserialize_optional_time")]
    pub restart_requested_at: Option<Timestamp>,
    #[serde(default)]
    pub overrides: Vec<Override>,
    /// Tasks for people that belong to the next deployment.
    #[serde(default, deserialize_with = "deserialize_notes")]
    pub notes: Vec<DeployNote>,
    /// As written; `None`: as the environment's settings say.
    #[serde(default)]
    pub rollout: Option<RolloutSpec>,
}

/// Another sha for the nodes whose tags match all of these.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Override {
    #[serde(rename = "match")]
    pub tags: BTreeMap<String, String>,
    pub sha: Sha,
}

/// The node of a field in an entry.
fn node_at<'n>(entry: &'n Node, path: &[&str]) -> &'n Node {
    path.iter()
        .fold(entry, |node, key| node.get(key).unwrap_or(node))
}

pub(super) fn parse_entry(node: &Node) -> Result<AppEntry, Problem> {
    match &node.kind {
        NodeKind::Scalar { .. } => Ok(AppEntry::of_sha(yaml::decode(node)?)),
        _ => {
            let entry: AppEntry = yaml::decode(node)?;
            entry.check(node)?;
            Ok(entry)
        }
    }
}

impl AppEntry {
    /// An entry that says nothing but its sha.
    pub(super) fn of_sha(sha: Sha) -> AppEntry {
        AppEntry {
            sha,
            reference: None,
            by: None,
            at: None,
            next: None,
            previous: None,
            hold: None,
            restart_requested_at: None,
            overrides: Vec::new(),
            notes: Vec::new(),
            rollout: None,
        }
    }

    /// Refuses what types cannot: texts appear in messages, reports and records, and each host compares each
    /// override with its tags in each pass.
    fn check(&self, node: &Node) -> Result<(), Problem> {
        const MAX_NAME_CHARS: usize = 300;
        const MAX_OVERRIDES: usize = 1000;
        let reason = self.hold.as_ref().map(|hold| &hold.reason);
        let by = self.hold.as_ref().map(|hold| &hold.by);
        for (path, text, most) in [
            (&["ref"][..], self.reference.as_ref(), MAX_NAME_CHARS),
            (&["by"], self.by.as_ref(), MAX_NAME_CHARS),
            (&["hold", "by"], by, MAX_NAME_CHARS),
            (&["hold", "reason"], reason, MAX_REASON_CHARS),
        ] {
            let length = text.map_or(0, |text| text.chars().count());
            if length > most {
                let problem = format!("it is {length} characters long; at most {most} are allowed");
                return Err(Problem::new(problem)
                    .at(&node_at(node, path).at)
                    .field(path.join(".")));
            }
        }
        check_notes(&self.notes)
            .map_err(|problem| problem.at(&node_at(node, &["notes"]).at).field("notes"))?;
        if let Some(number) = self.overrides.iter().position(|over| over.tags.is_empty()) {
            let field = format!("overrides[{number}].match");
            return Err(Problem::new(
                "it names no tag, so it would match every host; expected tags and their values",
            )
            .hint("to move every host to another sha, change `sha` itself")
            .at(&node_at(node, &["overrides"]).at)
            .field(field));
        }
        let tags = self.overrides.iter().map(|over| over.tags.len());
        let count = tags.sum::<usize>().max(self.overrides.len());
        if count > MAX_OVERRIDES {
            let problem = format!(
                "there are {count} overrides and tags of them; at most {MAX_OVERRIDES} are allowed"
            );
            return Err(Problem::new(problem)
                .at(&node_at(node, &["overrides"]).at)
                .field("overrides"));
        }
        Ok(())
    }

    /// The sha that a node with these tags should be at, at this time. The first override that matches wins; a hold that
    /// names a sha takes the place of the entry's own.
    pub(crate) fn sha_for(&self, tags: &BTreeMap<String, String>, now: Timestamp) -> &Sha {
        let held = self.hold_at(now).and_then(|hold| hold.sha.as_ref());
        let over = self.override_for(tags).map(|over| &over.sha);
        over.or(held).unwrap_or(&self.sha)
    }

    /// The override for a node with these tags.
    pub(crate) fn override_for(&self, tags: &BTreeMap<String, String>) -> Option<&Override> {
        let matching = |over: &&Override| {
            over.tags
                .iter()
                .all(|(tag, value)| tags.get(tag) == Some(value))
        };
        self.overrides.iter().find(matching)
    }

    /// The sha of the entry, those of all its overrides, and that of its hold, also of one that is over: what the manifest
    /// names must not depend on the time, or hosts that read it a moment apart would end each other's rollouts.
    pub(crate) fn wanted_shas(&self) -> BTreeSet<Sha> {
        let overridden = self.overrides.iter().map(|over| &over.sha);
        let held = self.hold.as_ref().and_then(|hold| hold.sha.as_ref());
        overridden.chain(held).chain([&self.sha]).cloned().collect()
    }

    /// The sha that only a hold names which is over.
    pub(crate) fn over_sha(&self, now: Timestamp) -> Option<&Sha> {
        let over = self.hold.as_ref().filter(|hold| !hold.is_in_force(now));
        let sha = over.and_then(|hold| hold.sha.as_ref())?;
        let mut others = self.overrides.iter().map(|over| &over.sha);
        (self.sha != *sha && others.all(|other| other != sha)).then_some(sha)
    }

    /// The desired state of this entry for a node with these tags, at this time.
    pub(super) fn for_node(
        &self,
        tags: &BTreeMap<String, String>,
        now: Timestamp,
        rollout: RolloutMode,
    ) -> DesiredApp {
        let sha = self.sha_for(tags, now);
        let unheld = self.override_for(tags).map_or(&self.sha, |over| &over.sha);
        DesiredApp {
            sha: sha.clone(),
            unheld_sha: unheld.clone(),
            published_sha: self.sha.clone(),
            reference: self.reference.clone(),
            by: self.by.clone(),
            at: self.at,
            notes: self.notes.clone(),
            next: self.next.clone(),
            hold: self.hold_at(now).cloned(),
            restart_requested_at: self.restart_requested_at,
            ignores_hold: false,
            rollout,
            // Somebody who goes back by hand may leave the field as it is: it then says nothing.
            previous: self.previous.clone().filter(|previous| previous != sha),
            wanted_shas: self.wanted_shas(),
        }
    }

    /// The hold that is in force at this time.
    pub(crate) fn hold_at(&self, now: Timestamp) -> Option<&Hold> {
        self.hold.as_ref().filter(|hold| hold.is_in_force(now))
    }
}
