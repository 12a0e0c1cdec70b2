//! What one host is to be at.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::change::ManifestChange;
use super::content_digest::ContentDigest;
use super::entry::DesiredApp;
use super::notify::NotifySpec;
use crate::problem::Problem;

/// Whether the desired state is known to be the newest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// The store answered in this pass, and this is its content.
    Fresh,
    /// The store did not answer; this is the last good manifest, from `since`.
    Stale {
        since: Option<Timestamp>,
        why: String,
    },
    /// The store returned a manifest that is refused; this is the last good one.
    Refused(Box<Problem>),
}

/// How a deployment that failed or was killed is resumed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum ResumePolicy {
    /// At the stage where it stopped, with growing pauses while it keeps failing.
    #[default]
    Backoff,
    /// At the stage where it stopped, now.
    Now,
    /// From the beginning, as a new release.
    FromScratch,
}

/// The desired state of this host.
#[derive(Debug, Clone)]
pub(crate) struct DesiredState {
    /// The node's environment.
    pub environment: String,
    /// By app; only apps of this host's environment.
    pub apps: BTreeMap<String, DesiredApp>,
    /// How the pass resumes unfinished deployments.
    pub resume_policy: ResumePolicy,
    pub freshness: Freshness,
    pub generation: Option<u64>,
    /// Channels that the rollouts of this environment notify.
    pub notify: NotifySpec,
    /// What made this generation.
    pub change: Option<ManifestChange>,
    /// An operator asked for a pass of every host since the last manifest that this host acted on.
    pub is_pass_requested: bool,
    /// The secrets of the environment, by name.
    pub secrets: BTreeMap<String, ContentDigest>,
    /// Problems elsewhere in the manifest, and other warnings for the report.
    pub warnings: Vec<Problem>,
    /// Why the last good list of peers is in force instead of the store's, a line each.
    pub kept_lists: Vec<String>,
}

impl DesiredState {
    /// No apps are wanted and no store was read.
    pub(crate) fn empty() -> DesiredState {
        DesiredState {
            environment: String::new(),
            apps: BTreeMap::new(),
            resume_policy: ResumePolicy::Backoff,
            freshness: Freshness::Fresh,
            generation: None,
            notify: NotifySpec::default(),
            change: None,
            is_pass_requested: false,
            secrets: BTreeMap::new(),
            warnings: Vec::new(),
            kept_lists: Vec::new(),
        }
    }

    /// The wanted sha of each app.
    pub(crate) fn wanted_shas(&self) -> BTreeMap<String, String> {
        let apps = self.apps.iter();
        apps.map(|(app, wanted)| (app.clone(), wanted.sha.to_string()))
            .collect()
    }

    /// Ignores the holds for one pass, at the request of an operator on the host. Adds a warning for each.
    pub(crate) fn lift_holds(&mut self) {
        for (app, wanted) in &mut self.apps {
            if let Some(hold) = wanted.hold.take() {
                wanted.ignores_hold = true;
                wanted.sha.clone_from(&wanted.unheld_sha);
                let warning = format!("{app} is {}: this pass goes over it", hold.description());
                self.warnings.push(Problem::new(warning));
            }
        }
    }
}
