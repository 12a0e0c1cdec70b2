//! Where and why the last release of a sha failed.

use super::ReleaseRecord;
use super::entry::StageStatus;
use crate::desired::Sha;
use crate::ports::Host;
use crate::release::app::spec::ReleaseSpec;

/// The stage of a release that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailedStage {
    pub name: &'static str,
    /// One line.
    pub why: String,
}

/// The stage in which the newest release of a sha failed. `None`: there is none, or it failed before any was on record.
pub(crate) fn failed_stage(spec: &ReleaseSpec, sha: &Sha, host: &Host) -> Option<FailedStage> {
    let record = ReleaseRecord::load(host, &spec.layout()).ok()?;
    let of_sha = record.entries().iter().filter(|entry| entry.sha == *sha);
    let entry = of_sha.max_by(|a, b| a.name.cmp(&b.name))?;
    let has_failed = |status| status == StageStatus::Failed;
    let stage = entry
        .stages
        .iter()
        .rev()
        .find(|stage| has_failed(stage.status))?;
    let why = entry.why.clone().or_else(|| stage.why.clone())?;
    Some(FailedStage {
        name: stage.stage.as_str(),
        why,
    })
}
