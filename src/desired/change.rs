//! What the last act of an operator or of CI did to an environment: who, when, why, and which apps it moved.
//!
//! It is a part of the environment, so it is as old, and as authentic, as what it describes. Hosts act on nothing in it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Sha;
use super::hold::MAX_REASON_CHARS;
use crate::printable;
use crate::problem::Problem;
use crate::yaml;

/// Maximum number of commits that a change lists for an app.
pub(crate) const MAX_COMMITS: usize = 20;

/// Maximum length of a commit in a change: its short sha and its subject.
pub(crate) const MAX_COMMIT_CHARS: usize = 120;

/// The change that made a generation of an environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct ManifestChange {
    pub action: Action,
    #[serde(
        default,
        deserialize_with = "printable::deserialize_optional_line",
        skip_serializing_if = "Option::is_none"
    )]
    pub by: Option<String>,
    /// By the clock of who made it.
    #[serde(default, deserialize_with = "yaml::deserialize_optional_time")]
    pub at: Option<Timestamp>,
    #[serde(
        default,
        deserialize_with = "printable::deserialize_optional_line",
        skip_serializing_if = "Option::is_none"
    )]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub apps: BTreeMap<String, AppChange>,
    /// The keys below `_settings` that it set or removed, such as `secrets.db-password`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<String>,
}

/// What a change did to one app; empty if it moved no sha.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct AppChange {
    /// `None`: the app was new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Sha>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Sha>,
    /// The sha that hosts build ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Sha>,
    #[serde(
        rename = "ref",
        default,
        deserialize_with = "printable::deserialize_optional_line",
        skip_serializing_if = "Option::is_none"
    )]
    pub reference: Option<String>,
    /// The commits between, newest first: `4f2c9d0 Fix the checkout`. As many as the publisher could determine, and no more
    /// than [`MAX_COMMITS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commits: Vec<String>,
}

/// The kind of a change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    #[default]
    Publish,
    Promote,
    Rollback,
    Hold,
    Unhold,
    Note,
    Restart,
    /// Passes of all hosts now.
    Now,
    Policy,
    Secret,
    /// Of a newer trueup.
    #[serde(other)]
    Other,
}

impl Action {
    /// As the manifest and the history name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Action::Publish => "publish",
            Action::Promote => "promote",
            Action::Rollback => "rollback",
            Action::Hold => "hold",
            Action::Unhold => "unhold",
            Action::Note => "note",
            Action::Restart => "restart",
            Action::Now => "now",
            Action::Policy => "policy",
            Action::Secret => "secret",
            Action::Other => "other",
        }
    }
}

impl ManifestChange {
    /// Refuses what types cannot: its texts appear in messages and notifications.
    pub(super) fn check(&self) -> Result<(), Problem> {
        const MAX_NAME_CHARS: usize = 300;
        let apps = self.apps.values();
        let commits = apps.clone().flat_map(|app| &app.commits);
        let commits = commits.map(|commit| (commit, MAX_COMMIT_CHARS));
        let references = apps.clone().filter_map(|app| app.reference.as_ref());
        let names = references.chain(&self.by).chain(&self.settings);
        let names = names.map(|name| (name, MAX_NAME_CHARS));
        let reason = self.reason.iter().map(|reason| (reason, MAX_REASON_CHARS));
        for (text, most) in commits.chain(names).chain(reason) {
            let length = text.chars().count();
            if length > most {
                return Err(Problem::new(format!(
                    "a text of it is {length} characters long; at most {most} are allowed"
                )));
            }
        }
        match apps.map(|app| app.commits.len()).max() {
            Some(count) if count > MAX_COMMITS => Err(Problem::new(format!(
                "it lists {count} commits of an app; at most {MAX_COMMITS} are allowed"
            ))),
            _ => Ok(()),
        }
    }
}
