//! A request to publish, and why one cannot be carried out.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::desired::{Action, NodeGeneration, Sha};
use crate::problem::Problem;

/// The shas to publish, and how.
#[derive(Debug, Clone)]
pub(crate) struct PublishRequest {
    pub environment: String,
    /// What it is called in the history.
    pub action: Action,
    /// By app; no app occurs twice.
    pub shas: Vec<(String, Sha)>,
    /// The shas that hosts build ahead without activating them, by app.
    pub next: Vec<(String, Sha)>,
    /// The commits between the sha before and the published one, by app.
    pub commits: BTreeMap<String, CommitList>,
    /// The wanted shas on which the decision to publish relied, by app; `None`: it had none.
    pub relied_on: BTreeMap<String, Option<Sha>>,
    /// Makes it [`EditError::Overtaken`] if somebody else moved an app since, instead of a warning.
    pub refuses_overtaken: bool,
    /// The refs that the shas came from, by app, for people.
    pub references: BTreeMap<String, String>,
    /// The publisher.
    pub by: Option<String>,
    /// Why, for the history.
    pub reason: Option<String>,
    pub at: Timestamp,
    /// The time by which holds are judged: that of the store, if it is known.
    pub now: Timestamp,
    /// The apps whose `previous` stays, because what they wanted before was never served.
    pub keeps_previous: Vec<String>,
    /// What to do about the holds of the apps of `shas` and `held_apps`.
    pub hold: HoldRequest,
    /// Apps whose sha stays as it is, whatever it is then, and whose hold is changed.
    pub held_apps: Vec<String>,
    /// The manifest that the environment is going to be signed for.
    pub signed_for: Option<String>,
    /// A person has confirmed a change of a protected environment.
    pub confirmed: bool,
    /// The environment's generation that the person was shown. Another one by now makes it [`EditError::Moved`].
    pub confirmed_at: Option<u64>,
    /// Refuses a sha that a hold in force blocks, instead of publishing it behind the hold with a warning.
    pub refuses_holds: bool,
    pub notes: Vec<NoteEdit>,
    /// Edits below `_settings` of the environment, in this order.
    pub settings: Vec<SettingEdit>,
    /// Settings that the request relies on. One that has another value by now makes it [`EditError::Outdated`].
    pub expected_settings: Vec<SettingEdit>,
    /// Allows a new environment, a new app or a new manifest.
    pub create: bool,
    /// An app that has an entry, whose services are to be restarted on all hosts.
    pub restart: Option<String>,
    /// Sets the generation above those that these hosts have acted on, instead of incrementing the current
    /// one.
    pub above_fleet: Option<Vec<NodeGeneration>>,
    /// Checks everything, and writes nothing.
    pub dry_run: bool,
}

impl PublishRequest {
    /// A request that changes nothing yet, made at this time.
    pub(crate) fn new(environment: &str, at: Timestamp) -> PublishRequest {
        PublishRequest {
            environment: environment.to_owned(),
            action: Action::Publish,
            shas: Vec::new(),
            next: Vec::new(),
            commits: BTreeMap::new(),
            relied_on: BTreeMap::new(),
            refuses_overtaken: false,
            references: BTreeMap::new(),
            by: None,
            reason: None,
            at,
            now: at,
            keeps_previous: Vec::new(),
            hold: HoldRequest::Keep,
            held_apps: Vec::new(),
            signed_for: None,
            confirmed: false,
            confirmed_at: None,
            refuses_holds: false,
            notes: Vec::new(),
            settings: Vec::new(),
            expected_settings: Vec::new(),
            create: false,
            restart: None,
            above_fleet: None,
            dry_run: false,
        }
    }

    /// The apps that it changes in other ways than their sha or hold.
    pub(super) fn others(&self) -> impl Iterator<Item = &str> {
        let noted = self.notes.iter().map(|edit| edit.app.as_str());
        let next = self.next.iter().map(|(app, _)| app.as_str());
        let restart = self.restart.as_deref();
        restart.into_iter().chain(next).chain(noted)
    }
}

/// The commits that a change brings to an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommitList {
    /// The sha that they follow. Another publisher may replace it first; then they are not those of this change.
    pub from: Sha,
    /// Newest first: `4f2c9d0 Fix the checkout`.
    pub lines: Vec<String>,
}

/// What a request does about the holds of its apps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum HoldRequest {
    #[default]
    Keep,
    /// Freezes the apps at the published shas.
    Set {
        reason: String,
        /// `None`: until it is lifted.
        until: Option<Timestamp>,
    },
    Lift,
}

/// A change of one setting of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SettingEdit {
    /// The keys below `_settings`, such as `secrets` and `db-password`.
    pub path: Vec<String>,
    /// `None`: removes it.
    pub value: Option<Value>,
}

/// A change of the notes of one app, which has an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoteEdit {
    pub app: String,
    pub change: NoteChange,
}

/// What becomes of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoteChange {
    /// Adds a note with this text.
    Add(String),
    /// Ticks the note with this number off.
    Done(u32),
}

/// Why a request cannot be carried out. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EditError {
    /// The current manifest is invalid.
    #[error(transparent)]
    Manifest(Box<Problem>),
    /// The request is invalid: an unknown app or environment without [`PublishRequest::create`], or an
    /// impossible name.
    #[error(transparent)]
    Request(Box<Problem>),
    /// A hold in force blocks the sha.
    #[error(transparent)]
    Held(Box<Problem>),
    /// Somebody else moved these apps since the decision to publish.
    #[error("somebody else published {} meanwhile", app_names(.0))]
    Overtaken(Vec<ShaChange>),
    /// The environment is protected, and nobody has confirmed the change.
    #[error(transparent)]
    Protected(Box<Problem>),
    /// Somebody changed the environment after a person was shown it.
    #[error("{environment} was changed meanwhile: it is at generation {generation} by now")]
    Moved {
        environment: String,
        generation: u64,
    },
    /// Somebody changed a setting that the request relies on.
    #[error("`{0}` was changed meanwhile")]
    Outdated(String),
}

impl EditError {
    pub(in crate::desired) fn manifest(problem: Problem) -> EditError {
        EditError::Manifest(Box::new(problem))
    }

    pub(in crate::desired) fn request(problem: Problem) -> EditError {
        EditError::Request(Box::new(problem))
    }
}

fn app_names(changes: &[ShaChange]) -> String {
    let names: Vec<&str> = changes.iter().map(|one| one.app.as_str()).collect();
    names.join(", ")
}

/// The change of one app's sha.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct ShaChange {
    pub app: String,
    /// `None`: the app is new in this environment. Equal to `to`: it stays.
    pub from: Option<Sha>,
    pub to: Sha,
}
