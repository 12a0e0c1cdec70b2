//! Recognizes a commit that changes nothing of what is checked out: nothing is deployed for it.
//!
//! Only for an app in a `subdir`: the commits of a monorepo mostly change other apps. An empty commit of an app that has
//! its repository for itself is a wish for a new release.

use git2::{Repository, Tree};

use super::activate;
use super::description::BuildDescription;
use super::skip::inputs::{find_tree, is_selection_equal};
use crate::desired::{ResumePolicy, Sha};
use crate::ports::Host;
use crate::ports::root::FileKind;
use crate::release::app::selection::Selection;
use crate::release::app::spec::ReleaseSpec;
use crate::release::deployment::{DeployOutcome, Deployment};
use crate::release::record::disk::read_revision;
use crate::release::record::entry::ReleaseEntry;
use crate::release::record::overrides::Overrides;
use crate::release::record::pin::Pin;
use crate::release::record::quarantine::QuarantinedSha;
use crate::release::record::{self, ReleaseRecord};
use crate::release::source::mirror;
use crate::resource::Failure;

/// How many quarantined shas a commit is compared with, the last ones.
const MAX_COMPARED: usize = 32;

/// What a commit changes nothing of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SameFiles {
    /// The active release, of this name.
    Active(String),
    /// The sha that an operator rolled back from.
    RolledBack(Pin),
    /// A sha that is quarantined here.
    Quarantined(QuarantinedSha),
}

/// Whether a sha is deployed at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Comparison {
    Same(SameFiles),
    Different,
    /// The mirror does not have the commit yet.
    Unknown,
}

/// Compares a sha with what is deployed or refused here. Contacts no server.
pub(crate) fn compare(
    spec: &ReleaseSpec,
    host: &Host,
    record: &ReleaseRecord,
    sha: &Sha,
) -> Result<Comparison, Failure> {
    let selection = spec.selection();
    if selection.is_everything() {
        return Ok(Comparison::Different);
    }
    let overrides = Overrides::load(host, &spec.layout())?;
    let active = find_comparable(spec, host, record)?;
    if active.is_none() && overrides.pin.is_none() && overrides.quarantine.is_empty() {
        return Ok(Comparison::Different);
    }
    let Some(mirror) = mirror::open_existing(spec, host) else {
        return Ok(Comparison::Unknown);
    };
    let Some(tree) = find_tree(&mirror, sha) else {
        return Ok(Comparison::Unknown);
    };
    let commit = Commit {
        mirror: &mirror,
        tree,
        selection: &selection,
    };
    let same = commit.find_same(&overrides, active);
    Ok(same.map_or(Comparison::Different, Comparison::Same))
}

/// Records, instead of a deployment, what the commit changes nothing of.
pub(crate) fn record_same_files(
    deployment: &Deployment<'_>,
    record: &mut ReleaseRecord,
    same: SameFiles,
) -> Result<DeployOutcome, Failure> {
    let folder = deployment.spec.subdir().display();
    let (outcome, stays) = match same {
        SameFiles::Active(name) => {
            if let Some(entry) = record.find_mut(&name) {
                entry.add_equal_sha(&deployment.sha);
            }
            record.save(deployment.host, &deployment.layout)?;
            (DeployOutcome::Unchanged(name.clone()), name)
        }
        SameFiles::RolledBack(mut pin) => {
            pin.instead_of = Some(deployment.sha.clone());
            let (why, name) = (pin.describe(), pin.release.clone());
            let mut overrides = Overrides::load(deployment.host, &deployment.layout)?;
            overrides.pin = Some(pin);
            overrides.save(deployment.host, &deployment.layout)?;
            (DeployOutcome::OnHold(why), name)
        }
        SameFiles::Quarantined(bad) => {
            let quarantined = bad.of_same_files(&deployment.sha, deployment.host.clock.now());
            let why = Failure::new(quarantined.describe());
            let mut overrides = Overrides::load(deployment.host, &deployment.layout)?;
            overrides.quarantine(quarantined);
            overrides.save(deployment.host, &deployment.layout)?;
            return Ok(DeployOutcome::Refused(why));
        }
    };
    activate::append_revisions_log(
        deployment,
        &format!(
            "Branch {} (at {}) changes nothing in {folder}: release {stays} stays",
            deployment.spec.reference.as_deref().unwrap_or("(none)"),
            deployment.sha
        ),
    );
    Ok(outcome)
}

/// The quarantined shas with the same files as this one.
pub(crate) fn quarantined_with_same_files(
    spec: &ReleaseSpec,
    host: &Host,
    overrides: &Overrides,
    sha: &Sha,
) -> Vec<Sha> {
    let selection = spec.selection();
    let Some(mirror) = mirror::open_existing(spec, host) else {
        return Vec::new();
    };
    let Some(tree) = find_tree(&mirror, sha) else {
        return Vec::new();
    };
    let commit = Commit {
        mirror: &mirror,
        tree,
        selection: &selection,
    };
    let all = overrides.quarantine.iter().map(|bad| &bad.sha);
    all.filter(|bad| commit.equals(bad)).cloned().collect()
}

/// A commit that is compared with others.
struct Commit<'a> {
    mirror: &'a Repository,
    tree: Tree<'a>,
    selection: &'a Selection,
}

impl Commit<'_> {
    fn find_same(&self, overrides: &Overrides, active: Option<&ReleaseEntry>) -> Option<SameFiles> {
        let pin = overrides.pin.as_ref();
        let left = |pin: &&Pin| pin.instead_of.as_ref().is_some_and(|sha| self.equals(sha));
        if let Some(pin) = pin.filter(left) {
            return Some(SameFiles::RolledBack(pin.clone()));
        }
        let mut quarantine = overrides.quarantine.iter().rev().take(MAX_COMPARED);
        if let Some(bad) = quarantine.find(|bad| self.equals(&bad.sha)) {
            return Some(SameFiles::Quarantined(bad.clone()));
        }
        let active = active.filter(|entry| self.equals(&entry.sha))?;
        Some(SameFiles::Active(active.name.clone()))
    }

    /// Whether the other commit has the same files. One that left the mirror with its branch counts as different.
    fn equals(&self, other: &Sha) -> bool {
        let other = find_tree(self.mirror, other);
        other.is_some_and(|other| is_selection_equal(&other, &self.tree, self.selection))
    }
}

/// The active release, if it is complete, intact and built as described now.
fn find_comparable<'r>(
    spec: &ReleaseSpec,
    host: &Host,
    record: &'r ReleaseRecord,
) -> Result<Option<&'r ReleaseEntry>, Failure> {
    if spec.resume_policy == ResumePolicy::FromScratch {
        return Ok(None);
    }
    let layout = spec.layout();
    let active = record::current(host, &layout)?;
    let Some(entry) = active.and_then(|name| record.find(&name)) else {
        return Ok(None);
    };
    let app = layout.app_folder(&entry.name, &entry.subdir);
    let kind = host.root.meta(app.path()).ok().flatten();
    let is_intact = kind.is_some_and(|meta| meta.kind == FileKind::Directory)
        && read_revision(host, &layout, &entry.name).as_ref() == Some(&entry.sha);
    let is_comparable = is_intact
        && entry.state.is_complete()
        && entry.private_until.is_none()
        && entry.is_linked()
        && BuildDescription::of(spec).first_difference(entry).is_none();
    Ok(is_comparable.then_some(entry))
}
