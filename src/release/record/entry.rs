//! The entry of one release in the record: its state, and the result of each of its stages.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::desired::Sha;
use crate::release::app::stage::Stage;

/// The state of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ReleaseStatus {
    /// Begun and not finished.
    Building,
    /// One of its stages failed.
    Failed,
    /// Complete and on disk; it has not been proven.
    Built,
    /// It was active and passed its gate.
    Good,
    /// It failed its gate or its preflight.
    Bad,
}

impl ReleaseStatus {
    /// Whether it is complete and may be activated.
    pub(crate) fn is_complete(self) -> bool {
        matches!(self, ReleaseStatus::Built | ReleaseStatus::Good)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            ReleaseStatus::Building => "building",
            ReleaseStatus::Failed => "failed",
            ReleaseStatus::Built => "built",
            ReleaseStatus::Good => "good",
            ReleaseStatus::Bad => "bad",
        }
    }
}

/// The result of a stage, or of one step of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StageStatus {
    /// Begun; if no pass works on it, it was killed there.
    Running,
    Done,
    /// There was nothing to do, for the reason given.
    Skipped,
    Failed,
}

/// Recorded apart in the stage `link`: the links of the release, which also change while it is active.
pub(crate) const LINKS_STEP: &str = "links";

/// One stage of one release, or one step of the stage `build`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StageEntry {
    pub stage: Stage,
    /// The name of a step; a stage without steps has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    #[serde(rename = "ended")]
    pub status: StageStatus,
    pub began: Timestamp,
    #[serde(default)]
    pub took_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// A fingerprint of what describes it: a stage or step that was changed since does not count as done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
}

impl StageEntry {
    /// A completed stage of negligible duration.
    pub(crate) fn done(stage: Stage, at: Timestamp) -> StageEntry {
        StageEntry {
            stage,
            step: None,
            status: StageStatus::Done,
            began: at,
            took_ms: 0,
            why: None,
            definition: None,
        }
    }
}

/// One release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReleaseEntry {
    pub name: String,
    pub sha: Sha,
    pub state: ReleaseStatus,
    /// When it entered this state, by the host's clock.
    pub at: Timestamp,
    /// Why it failed or is bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The branch or tag that its sha came from, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Failures in a row.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// A fingerprint of what described it at its last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_as: Option<String>,
    /// trueup does not retry it by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub given_up: bool,
    /// When a private release expires; `None` for others. trueup does not activate a private one by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_until: Option<Timestamp>,
    /// The app's folder in it; empty: all of it.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub subdir: PathBuf,
    /// Other shas that change nothing of what is checked out: for them this release stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub equal_shas: Vec<Sha>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageEntry>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

/// How many of the `equal_shas` are kept, the last ones.
const MAX_EQUAL_SHAS: usize = 32;

impl ReleaseEntry {
    /// A new release, in the state `building`.
    pub(crate) fn new(name: &str, sha: &Sha, at: Timestamp) -> ReleaseEntry {
        ReleaseEntry {
            name: name.to_owned(),
            sha: sha.clone(),
            state: ReleaseStatus::Building,
            at,
            why: None,
            reference: None,
            by: None,
            failures: 0,
            failed_as: None,
            given_up: false,
            private_until: None,
            subdir: PathBuf::new(),
            equal_shas: Vec::new(),
            stages: Vec::new(),
        }
    }

    /// All shas that it stands for, its own first.
    pub(crate) fn shas(&self) -> impl Iterator<Item = &Sha> {
        std::iter::once(&self.sha).chain(&self.equal_shas)
    }

    /// Whether its files are those of this sha.
    pub(crate) fn has_files_of(&self, sha: &Sha) -> bool {
        self.sha == *sha || self.equal_shas.contains(sha)
    }

    /// Records that a sha changes nothing of what is checked out.
    pub(crate) fn add_equal_sha(&mut self, sha: &Sha) {
        self.equal_shas.retain(|known| known != sha);
        let too_many = (self.equal_shas.len() + 1).saturating_sub(MAX_EQUAL_SHAS);
        self.equal_shas.drain(..too_many);
        self.equal_shas.push(sha.clone());
    }

    /// The entry of a stage, or of a step of it.
    pub(crate) fn find_stage(&self, stage: Stage, step: Option<&str>) -> Option<&StageEntry> {
        let of = |entry: &&StageEntry| entry.stage == stage && entry.step.as_deref() == step;
        self.stages.iter().find(of)
    }

    /// Whether a stage or step was done (or skipped) with this definition.
    pub(crate) fn is_done(
        &self,
        stage: Stage,
        step: Option<&str>,
        definition: Option<&str>,
    ) -> bool {
        self.find_stage(stage, step).is_some_and(|entry| {
            matches!(entry.status, StageStatus::Done | StageStatus::Skipped)
                && entry.definition.as_deref() == definition
        })
    }

    /// Adds the entry of a stage or step, or replaces it.
    pub(crate) fn put_stage(&mut self, entry: StageEntry) {
        let same = |old: &&mut StageEntry| old.stage == entry.stage && old.step == entry.step;
        match self.stages.iter_mut().find(same) {
            Some(old) => *old = entry,
            None => self.stages.push(entry),
        }
    }

    /// Whether it is unfinished and can be resumed: its files are checked out.
    pub(crate) fn is_resumable(&self) -> bool {
        matches!(self.state, ReleaseStatus::Building | ReleaseStatus::Failed) && self.is_linked()
    }

    /// Whether trueup checked out its files and linked them. A release of another tool is not.
    pub(crate) fn is_linked(&self) -> bool {
        let linked = self.find_stage(Stage::Link, None);
        linked.is_some_and(|linked| linked.status == StageStatus::Done)
    }

    /// Ends an attempt for good: nothing of it counts as done any more.
    pub(crate) fn discard(&mut self, why: &str) {
        self.state = ReleaseStatus::Failed;
        self.why = Some(why.to_owned());
        self.stages.clear();
        (self.failures, self.failed_as, self.given_up) = (0, None, false);
    }

    /// The stage in which it failed or was killed.
    pub(crate) fn unfinished_stage(&self) -> Option<&StageEntry> {
        let open = |entry: &&StageEntry| {
            matches!(entry.status, StageStatus::Running | StageStatus::Failed)
        };
        self.stages.iter().find(open)
    }
}
