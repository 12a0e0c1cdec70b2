//! A read-only inventory of an app on a host: its releases with their states, its quarantined shas and its
//! pin.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use super::entry::{ReleaseEntry, ReleaseStatus};
use super::overrides::Overrides;
use super::pin::Pin;
use super::quarantine::QuarantinedSha;
use crate::desired::Sha;
use crate::ports::Host;
use crate::ports::root::DiskUsage;
use crate::release::app::layout::Layout;
use crate::release::app::spec::ReleaseSpec;
use crate::release::app::stage::Stage;
use crate::release::record::{self, RecordedTrial, ReleaseRecord};
use crate::resource::Failure;

/// The state of a release as operators see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ReleasePhase {
    /// `current` points to it.
    Active,
    /// `current` points to it, and its gate has not decided yet.
    OnTrial,
    /// It was active and passed its gate.
    Good,
    /// Complete, and never active.
    Built,
    /// A private build.
    Private,
    Failed,
    /// It was active and failed its gate.
    Bad,
    Building,
}

/// One release.
#[derive(Debug, Serialize)]
pub(crate) struct ReleaseInfo {
    pub release: String,
    pub state: ReleasePhase,
    pub active: bool,
    pub sha: Sha,
    /// Other shas for which it stays, because they change nothing in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub equal_shas: Vec<Sha>,
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// When its first stage started.
    #[serde(rename = "begun")]
    pub started: Timestamp,
    /// When it entered its state.
    pub at: Timestamp,
    /// The stage in which it is or failed.
    pub stage: Option<Stage>,
    pub private_until: Option<Timestamp>,
    /// `None`: it could not be determined.
    pub size: Option<DiskUsage>,
    pub by: Option<String>,
    pub why: Option<String>,
    pub path: PathBuf,
}

/// One app.
#[derive(Debug, Serialize)]
pub(crate) struct Inventory {
    pub app: String,
    pub wanted: Option<Sha>,
    /// The pin in force: the manifest still wants what it wanted when the pin was set.
    pub pin: Option<Pin>,
    pub quarantine: Vec<QuarantinedSha>,
    /// The last activated or begun one first.
    pub releases: Vec<ReleaseInfo>,
}

/// Lists all releases of an app.
pub(crate) fn inventory(spec: &ReleaseSpec, host: &Host) -> Result<Inventory, Failure> {
    let layout = spec.layout();
    let record = ReleaseRecord::load(host, &layout)?;
    let overrides = Overrides::load(host, &layout)?;
    let active = record::current(host, &layout)?;
    let releases = record.entries().iter().rev().map(|entry| {
        let is_active = active.as_ref() == Some(&entry.name);
        release_info(entry, is_active, record.trial(), &layout, host)
    });
    Ok(Inventory {
        app: spec.app.clone(),
        wanted: spec.wanted.clone(),
        pin: overrides.effective_pin(spec.wanted.as_ref()).cloned(),
        releases: releases.collect(),
        quarantine: overrides.quarantine,
    })
}

/// The name of the active release.
pub(crate) fn active_release_name(
    spec: &ReleaseSpec,
    host: &Host,
) -> Result<Option<String>, Failure> {
    record::current(host, &spec.layout())
}

/// The names of all releases of an app.
pub(crate) fn release_names(spec: &ReleaseSpec, host: &Host) -> Result<Vec<String>, Failure> {
    let record = ReleaseRecord::load(host, &spec.layout())?;
    let entries = record.entries().iter();
    Ok(entries.map(|entry| entry.name.clone()).collect())
}

fn release_info(
    entry: &ReleaseEntry,
    active: bool,
    trial: Option<&RecordedTrial>,
    layout: &Layout,
    host: &Host,
) -> ReleaseInfo {
    let (tree, app) = (
        layout.release(&entry.name),
        layout.app_folder(&entry.name, &entry.subdir),
    );
    let started = entry
        .stages
        .iter()
        .map(|stage_entry| stage_entry.began)
        .min();
    ReleaseInfo {
        release: entry.name.clone(),
        state: release_phase(entry, active, trial),
        active,
        sha: entry.sha.clone(),
        equal_shas: entry.equal_shas.clone(),
        reference: entry.reference.clone(),
        started: started.map_or(entry.at, |started| started.min(entry.at)),
        at: entry.at,
        stage: entry
            .unfinished_stage()
            .filter(|_| !entry.state.is_complete())
            .map(|stage_entry| stage_entry.stage),
        private_until: entry.private_until,
        size: host.root.disk_usage(&tree).ok().flatten(),
        by: entry.by.clone(),
        why: entry.why.clone(),
        path: host.root.machine_path(app.path()),
    }
}

fn release_phase(
    entry: &ReleaseEntry,
    active: bool,
    trial: Option<&RecordedTrial>,
) -> ReleasePhase {
    let is_tried = trial.is_some_and(|trial| trial.name == entry.name);
    match entry.state {
        ReleaseStatus::Building => ReleasePhase::Building,
        ReleaseStatus::Failed => ReleasePhase::Failed,
        ReleaseStatus::Bad => ReleasePhase::Bad,
        _ if active && is_tried => ReleasePhase::OnTrial,
        _ if active => ReleasePhase::Active,
        _ if entry.private_until.is_some() => ReleasePhase::Private,
        ReleaseStatus::Built => ReleasePhase::Built,
        ReleaseStatus::Good => ReleasePhase::Good,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_phase_shows_the_most_important_state() {
        let sha = Sha::parse(&"4f2c9d0e".repeat(5)).unwrap();
        let at = Timestamp::UNIX_EPOCH;
        let mut entry = ReleaseEntry::new("r", &sha, at);
        let trial = RecordedTrial {
            name: "r".into(),
            from: None,
            is_rollback: false,
            is_repeated: false,
            crashed: None,
        };
        assert_eq!(release_phase(&entry, false, None), ReleasePhase::Building);
        entry.state = ReleaseStatus::Built;
        assert_eq!(
            release_phase(&entry, true, Some(&trial)),
            ReleasePhase::OnTrial
        );
        assert_eq!(
            release_phase(&entry, false, Some(&trial)),
            ReleasePhase::Built
        );
        entry.private_until = Some(at);
        assert_eq!(release_phase(&entry, false, None), ReleasePhase::Private);
        assert_eq!(release_phase(&entry, true, None), ReleasePhase::Active);
        entry.state = ReleaseStatus::Bad;
        assert_eq!(release_phase(&entry, true, None), ReleasePhase::Bad);
    }
}
