//! Which notices the state of an app calls for: pure functions of what a host reads anyway. Every host that reads the same
//! makes notices with the same ids.

mod failed_host;
mod manifest;
mod own;
mod rollout;

use jiff::Timestamp;

use super::notice::{Notice, line};
use crate::desired::{Hold, OnFailure, Sha, Transition};
use crate::digest::digest;

pub(crate) use manifest::{hold_ended, known_hold, manifest_notices, published_id};
pub(crate) use own::own_notices;
pub(crate) use rollout::register_notices;

/// Digits of a digest in an id.
const ID_DIGITS: usize = 16;

/// What the manifest says about an app.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// What this host is to be at.
    pub sha: Sha,
    pub previous: Option<Sha>,
    pub publication: Publication,
    pub generation: Option<u64>,
    pub hold: Option<Hold>,
    pub notes: Vec<ManualTask>,
    pub on_failure: OnFailure,
}

/// The last act of somebody that set what is wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Publication {
    /// For example `publish` or `rollback`.
    pub action: String,
    pub by: Option<String>,
    pub at: Option<Timestamp>,
    pub reason: Option<String>,
    pub from: Option<Sha>,
    pub reference: Option<String>,
    pub commits: Vec<String>,
    /// The generation whose act set it; `None`: the manifest does not say it.
    pub generation: Option<u64>,
}

/// What somebody has to do by hand.
#[derive(Debug, Clone)]
pub(crate) struct ManualTask {
    pub text: String,
    pub by: Option<String>,
    pub at: Option<Timestamp>,
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
