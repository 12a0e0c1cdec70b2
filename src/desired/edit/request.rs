//! A request to publish, and why one cannot be carried out.

use jiff::Timestamp;

use crate::desired::{NodeGeneration, Sha};
use crate::problem::Problem;

/// The shas to publish, and how.
#[derive(Debug, Clone)]
pub(crate) struct PublishRequest {
    pub environment: String,
    /// By app; no app occurs twice.
    pub shas: Vec<(String, Sha)>,
    /// The ref that the sha came from, for people. For a single app only.
    pub reference: Option<String>,
    /// The publisher.
    pub by: Option<String>,
    pub at: Timestamp,
    /// The time by which holds are judged: that of the store, if it is known.
    pub now: Timestamp,
    /// The apps whose `previous` stays, because what they wanted before was never served.
    pub keeps_previous: Vec<String>,
    /// What to do about the holds of these apps.
    pub hold: HoldRequest,
    /// Allows a new environment, a new app or a new manifest.
    pub create: bool,
    /// An app that has an entry, whose services are to be restarted on all hosts.
    pub restart: Option<String>,
    /// Sets the generation above those that these hosts have acted on, instead of incrementing the current
    /// one.
    pub above_fleet: Option<Vec<NodeGeneration>>,
}

impl PublishRequest {
    /// A request that changes nothing yet, made at this time.
    pub(crate) fn new(environment: &str, at: Timestamp) -> PublishRequest {
        PublishRequest {
            environment: environment.to_owned(),
            shas: Vec::new(),
            reference: None,
            by: None,
            at,
            now: at,
            keeps_previous: Vec::new(),
            hold: HoldRequest::Keep,
            create: false,
            restart: None,
            above_fleet: None,
        }
    }
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
}

impl EditError {
    pub(in crate::desired) fn manifest(problem: Problem) -> EditError {
        EditError::Manifest(Box::new(problem))
    }

    pub(super) fn request(problem: Problem) -> EditError {
        EditError::Request(Box::new(problem))
    }
}

/// The change of one app's sha.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct ShaChange {
    pub app: String,
    /// `None`: the app is new in this environment.
    pub from: Option<Sha>,
    pub to: Sha,
}
