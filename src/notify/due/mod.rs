//! Which notices the state of an app calls for: pure functions of what a host reads anyway. Every host that reads the same
//! makes notices with the same ids.

mod alone;
mod failed_host;
mod manifest;
mod rollout;

use jiff::Timestamp;

use super::notice::{Notice, line};
use crate::desired::{
    Action, AppChange, DeployNote, DesiredApp, Hold, ManifestChange, OnFailure, POLICY_APP,
    POLICY_SETTING, Sha, Transition,
};
use crate::digest::digest;

pub(crate) use alone::own_notices;
pub(crate) use manifest::{
    hold_ended, implied_ids, known_hold, manifest_notices, published_id, published_key,
};
pub(crate) use rollout::register_notices;

/// Digits of a digest in an id.
const ID_DIGITS: usize = 16;

/// Kinds of notices of which there is one for each publication.
const PUBLISHED: &str = "published";
const ALONE: &str = "alone";

/// Stands for the generation of a publication in an id.
const UNKNOWN: &str = "u";

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
    pub notes: Vec<DeployNote>,
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
            publication: Publication::of(app, desired, generation, change),
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
    /// The generation that published it; `None`: the manifest says it no more.
    pub generation: Option<u64>,
}

impl Publication {
    /// As far as the manifest still says it: it names the last change of the environment only.
    fn of(
        app: &str,
        desired: &DesiredApp,
        generation: Option<u64>,
        change: Option<&ManifestChange>,
    ) -> Publication {
        let publication = Publication {
            by: desired.by.clone(),
            at: desired.at,
            reference: desired.reference.clone(),
            ..Publication::default()
        };
        let moved = change.and_then(|change| Some((change, moved_app(app, desired, change)?)));
        let to_this = |app: &AppChange| app.to.as_ref() == Some(&desired.published_sha);
        match moved.filter(|(_, app)| to_this(app)) {
            None => publication,
            Some((change, app)) => Publication {
                is_rollback: change.action == Action::Rollback,
                generation,
                by: change.by.clone().or(publication.by),
                at: change.at.or(publication.at),
                reason: change.reason.clone(),
                from: app.from,
                reference: app.reference.or(publication.reference),
                commits: app.commits,
            },
        }
    }
}

/// What a change did to an app. A policy bundle is one of the settings.
fn moved_app(app: &str, desired: &DesiredApp, change: &ManifestChange) -> Option<AppChange> {
    if app != POLICY_APP {
        return change.apps.get(app).cloned();
    }
    let is_set = change.settings.iter().any(|key| key == POLICY_SETTING);
    is_set.then(|| AppChange {
        from: desired.previous.clone(),
        to: Some(desired.published_sha.clone()),
        ..AppChange::default()
    })
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
        match self.app {
            POLICY_APP => format!("trueup rollback {} --policy", self.environment),
            app => format!("trueup rollback {} {app}", self.environment),
        }
    }

    /// The id of a notice that there is one of for each publication. Hosts that read the manifest later, when it names the
    /// change of another app, do not know its generation: see [`same_publication`].
    fn publication_id(kind: &str, wanted: &Wanted) -> String {
        let generation = wanted.publication.generation;
        let generation = generation.map_or(UNKNOWN.into(), |number| number.to_string());
        format!("{kind}:{}:{generation}", wanted.published.short())
    }

    /// `production/shop: TEXT`.
    fn summary(&self, text: &str) -> String {
        line(&format!("{}/{}: {text}", self.environment, self.app))
    }
}

/// Whether two ids may be of one publication, because one of them does not say which.
pub(crate) fn same_publication(one: &str, other: &str) -> bool {
    let parts = |id: &'_ str| {
        id.rsplit_once(':')
            .map(|(start, end)| (start.to_owned(), end.to_owned()))
    };
    let (Some(one), Some(other)) = (parts(one), parts(other)) else {
        return false;
    };
    let is_unknown = one.1 == UNKNOWN || other.1 == UNKNOWN;
    let is_kind = [PUBLISHED, ALONE]
        .iter()
        .any(|kind| one.0.starts_with(&format!("{kind}:")));
    is_kind && is_unknown && one.0 == other.0
}

fn short_digest(text: &str) -> String {
    let mut digest = digest(text.as_bytes());
    digest.truncate(ID_DIGITS);
    digest
}
