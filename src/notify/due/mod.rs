//! Which notices the state of an app calls for: pure functions of what a host reads anyway. Every host that reads the same
//! makes notices with the same ids.

mod failed_host;
mod manifest;
mod own;
mod rollout;

use jiff::Timestamp;

use super::notice::{Notice, line};
use crate::desired::{
    Action, AppChange, DesiredApp, Hold, ManifestChange, Note, OnFailure, Sha, Transition,
};
use crate::digest::digest;

pub(crate) use manifest::{hold_ended, implied_ids, known_hold, manifest_notices, published_id};
pub(crate) use own::own_notices;
pub(crate) use rollout::register_notices;

/// Digits of a digest in an id.
const ID_DIGITS: usize = 16;

/// What the manifest says about an app.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// What this host is to be at.
    pub sha: Sha,
    /// What the entry names for all hosts, whatever holds and overrides say.
    pub published: Sha,
    pub previous: Option<Sha>,
    pub publication: Publication,
    pub generation: Option<u64>,
    pub hold: Option<Hold>,
    pub notes: Vec<Note>,
    pub on_failure: OnFailure,
}

impl Wanted {
    /// As the manifest says it. `generation` and `change` are those of the environment.
    pub(crate) fn of(
        app: &str,
        desired: &DesiredApp,
        generation: Option<u64>,
        change: Option<&ManifestChange>,
    ) -> Wanted {
        let policy = desired.rollout.policy();
        Wanted {
            sha: desired.sha.clone(),
            published: desired.published_sha.clone(),
            previous: desired.previous.clone(),
            publication: Publication::of(app, desired, change),
            generation,
            hold: desired.hold.clone(),
            notes: desired.notes.clone(),
            on_failure: policy.map_or(OnFailure::default(), |policy| policy.on_failure),
        }
    }
}

/// How the app came to what is published.
#[derive(Debug, Clone, Default)]
pub(crate) struct Publication {
    /// It was a way back.
    pub is_rollback: bool,
    pub by: Option<String>,
    pub at: Option<Timestamp>,
    pub reason: Option<String>,
    pub from: Option<Sha>,
    pub reference: Option<String>,
    pub commits: Vec<String>,
}

impl Publication {
    /// As far as the manifest still says it: it names the last change of the environment only.
    pub(crate) fn of(
        app: &str,
        desired: &DesiredApp,
        change: Option<&ManifestChange>,
    ) -> Publication {
        let publication = Publication {
            by: desired.by.clone(),
            at: desired.at,
            reference: desired.reference.clone(),
            ..Publication::default()
        };
        let moved = change.and_then(|change| Some((change, change.apps.get(app)?)));
        let to_this = |app: &AppChange| app.to.as_ref() == Some(&desired.published_sha);
        match moved.filter(|(_, app)| to_this(app)) {
            None => publication,
            Some((change, app)) => Publication {
                is_rollback: change.action == Action::Rollback,
                by: change.by.clone().or(publication.by),
                reason: change.reason.clone(),
                from: app.from.clone(),
                reference: app.reference.clone().or(publication.reference),
                commits: app.commits.clone(),
                ..publication
            },
        }
    }
}

/// Where the app is on a host that goes by itself, without others.
#[derive(Debug, Clone, Default)]
pub(crate) struct OwnResult {
    pub is_proven: bool,
    /// The stage, the reason, and the end of the output.
    pub failure: Option<(Option<String>, String, String)>,
}

/// Of which app, for whom, when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub environment: &'a str,
    pub app: &'a str,
    /// This host.
    pub node: &'a str,
    /// By the store's clock.
    pub now: Timestamp,
}

impl Subject<'_> {
    fn notice(&self, id: String, transition: Transition, wanted: &Wanted) -> Notice {
        let mut notice = Notice::new(id, transition, (self.environment, self.app), self.now);
        notice.to = Some(wanted.sha.clone());
        notice.generation = wanted.generation;
        notice
    }

    fn undo(&self) -> String {
        format!("trueup rollback {} {}", self.environment, self.app)
    }

    /// `production/shop: TEXT`.
    fn summary(&self, text: &str) -> String {
        line(&format!("{}/{}: {text}", self.environment, self.app))
    }
}

fn short_digest(text: &str) -> String {
    let mut digest = digest(text.as_bytes());
    digest.truncate(ID_DIGITS);
    digest
}
