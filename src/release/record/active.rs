//! The active release: what `current` points to, with what the record says of it.

use std::path::PathBuf;

use jiff::Timestamp;

use super::disk::{self, current, read_revision};
use super::entry::{LINKS_STEP, ReleaseEntry, ReleaseStatus, StageEntry};
use super::releases::{FailedRemoval, read_record_file};
use super::trial::RecordedTrial;
use crate::desired::Sha;
use crate::ports::Host;
use crate::release::app::layout::{AppFolder, Layout};
use crate::release::app::stage::Stage;
use crate::resource::Failure;

/// The release that `current` points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ActiveRelease {
    pub name: String,
    /// `None`: it has no usable `REVISION`, or one that contradicts the record.
    pub sha: Option<Sha>,
    /// When `current` was switched to it.
    pub since: Timestamp,
    /// The app's folder in it; empty: all of it.
    pub subdir: PathBuf,
    /// Other shas that change nothing of what is checked out.
    pub equal_shas: Vec<Sha>,
    /// Its state on record; `None`: the record does not contain it.
    pub state: Option<ReleaseStatus>,
    /// Its trial, if it has not been proven since `current` was switched to it.
    pub trial: Option<RecordedTrial>,
    /// Until when it is new, if it is.
    pub bake_until: Option<Timestamp>,
    /// Whether the app served before the trial: the trial follows a good release or one of another tool, or
    /// is a rollback.
    pub served_before: bool,
    /// Whether trueup linked it, which a release of another tool is not.
    pub is_linked: bool,
    /// When its links were last changed, and how: see `stages::active_links`.
    pub links: Option<StageEntry>,
    /// A pass was killed before it had removed unneeded releases, or prepared the spare.
    pub needs_cleanup: bool,
    /// What the last cleanup could not remove.
    pub unremoved: Vec<FailedRemoval>,
}

impl ActiveRelease {
    /// The sha that it stands for: the wanted one, if that changes nothing of what is checked out, else its own.
    pub(crate) fn sha_for<'a>(&'a self, wanted: Option<&'a Sha>) -> Option<&'a Sha> {
        let own = self.sha.as_ref()?;
        let equal = wanted.filter(|wanted| self.equal_shas.contains(wanted));
        Some(equal.unwrap_or(own))
    }

    /// The app's folder in it.
    pub(crate) fn app_folder(&self, layout: &Layout) -> AppFolder {
        layout.app_folder(&self.name, &self.subdir)
    }
}

/// The active release, with its sha if `REVISION` and the record do not contradict each other and the record
/// does not call it half-built. Costs three reads.
///
/// `keep_releases` is the number of good releases to keep.
pub(crate) fn active(
    host: &Host,
    layout: &Layout,
    keep_releases: usize,
) -> Result<Option<ActiveRelease>, Failure> {
    let Some(meta) = host.root.meta(&layout.current())? else {
        return Ok(None);
    };
    let Some(name) = current(host, layout)? else {
        return Ok(None);
    };
    let (mut entry, mut trial, mut bake, mut spare_attempted_for) = (None, None, None, None);
    let (mut served_before, mut needs_removal, mut unremoved) = (false, false, Vec::new());
    if let Some(file) = read_record_file(host, layout) {
        let all = &file.releases;
        unremoved = file.unremoved;
        // The next deployment retries a failed removal, not each pass.
        let stays = |entry: &ReleaseEntry| unremoved.iter().any(|left| left.name == entry.name);
        let of = |state| {
            all.iter().filter(move |entry| {
                entry.state == state && entry.private_until.is_none() && !stays(entry)
            })
        };
        let is_gone = |left: &FailedRemoval| !left.exists(host, layout);
        needs_removal = unremoved.iter().any(is_gone)
            || of(ReleaseStatus::Good).count() > keep_releases.max(2)
            || of(ReleaseStatus::Failed).count() > 1;
        trial = file.trial.filter(|trial| trial.name == name);
        bake = file.bake.filter(|bake| bake.name == name);
        served_before = trial.as_ref().is_some_and(|trial| {
            let from = trial.from.as_ref();
            // A release that is not on record was deployed by another tool.
            let unknown = from.is_some_and(|from| all.iter().all(|entry| entry.name != *from));
            let good = all
                .iter()
                .any(|entry| entry.state == ReleaseStatus::Good && entry.name != name);
            trial.is_rollback || unknown || good
        });
        spare_attempted_for = file.spare_attempted_for;
        entry = file.releases.into_iter().find(|e| e.name == name);
    }
    let sha = read_revision(host, layout, &name).filter(|sha| {
        entry.as_ref().is_none_or(|entry| {
            // A bad release is complete as well: it stays active until it is rolled back.
            (entry.state.is_complete() || entry.state == ReleaseStatus::Bad) && entry.sha == *sha
        })
    });
    // An adopted release, which is not on record, has no mirror yet to prepare a spare from.
    let lacks_spare = entry.is_some() && sha.is_some() && spare_attempted_for != sha;
    let (subdir, equal_shas) = match &entry {
        Some(entry) => (entry.subdir.clone(), entry.equal_shas.clone()),
        // The record was lost.
        None => (disk::current_subdir(host, layout)?, Vec::new()),
    };
    Ok(Some(ActiveRelease {
        name,
        sha,
        subdir,
        equal_shas,
        since: meta.ctime,
        is_linked: entry.as_ref().is_some_and(ReleaseEntry::is_linked),
        links: entry
            .as_ref()
            .and_then(|entry| entry.find_stage(Stage::Link, Some(LINKS_STEP)).cloned()),
        state: entry.map(|entry| entry.state),
        trial,
        bake_until: bake.map(|bake| bake.until),
        served_before,
        needs_cleanup: needs_removal || lacks_spare,
        unremoved,
    }))
}
