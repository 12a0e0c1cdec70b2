//! The keep stage: removes releases that are no longer needed, and never one that is.
//!
//! What cannot be removed (it is immutable, or something is mounted in it) is recorded and logged, and delays
//! no deployment. The next deployment tries again.

use std::collections::BTreeMap;

use super::assets;
use super::outputs;
use crate::ports::processes::{self, FileId};
use crate::ports::root::RootError;
use crate::release::app::layout::is_leftover;
use crate::release::deployment::Deployment;
use crate::release::record::entry::ReleaseStatus;
use crate::release::record::overrides::Overrides;
use crate::release::record::{self, ReleaseRecord};
use crate::resource::Failure;

/// Which failed and bad releases to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeepFailed {
    /// The latest of each, for diagnosis.
    Latest,
    None,
}

/// Removes the releases that [`find_unneeded`] returns, except those in use.
pub(crate) fn prune(
    deployment: &Deployment<'_>,
    record: &mut ReleaseRecord,
) -> Result<(), Failure> {
    let names = find_unneeded(deployment, record, KeepFailed::Latest)?;
    remove_idle(deployment, record, names);
    sweep_shared(deployment, record);
    Ok(())
}

/// Good releases beyond `keep_releases`, releases that were never activated and are no longer wanted, and
/// failed ones. Never the active one, the good one before it, one that is to be activated next or rolled back
/// to, or a private one before it expires.
pub(crate) fn find_unneeded(
    deployment: &Deployment<'_>,
    record: &ReleaseRecord,
    failed: KeepFailed,
) -> Result<Vec<String>, Failure> {
    let active = record::current(deployment.host, &deployment.layout)?;
    let overrides = Overrides::load(deployment.host, &deployment.layout)?;
    let pinned = overrides.pin.map(|pin| pin.release);
    let trial = record.trial();
    let from = trial.and_then(|trial| trial.from.clone());
    let needed = |name: &String| [&active, &pinned, &from].contains(&&Some(name.clone()));
    let mut unused = record.in_state(ReleaseStatus::Built);
    unused.retain(|name| !needed(name) && !is_wanted(deployment, record, name));
    let mut good = record.in_state(ReleaseStatus::Good);
    good.retain(|name| !needed(name) && !is_private(deployment, record, name));
    // Beside the active one, at least the one to roll back to.
    let beside_active = deployment.spec.keep_releases.saturating_sub(1).max(1);
    good.truncate(good.len().saturating_sub(beside_active));
    let failed = find_failed(deployment, record, failed)?;
    Ok([unused, good, failed].concat())
}

/// Removes all failed and all bad releases but the latest of each.
pub(crate) fn prune_failed(
    deployment: &Deployment<'_>,
    record: &mut ReleaseRecord,
) -> Result<(), Failure> {
    let names = find_failed(deployment, record, KeepFailed::Latest)?;
    remove_idle(deployment, record, names);
    sweep_shared(deployment, record);
    Ok(())
}

/// Removes unneeded assets and outputs. Those that stay do no harm, so a failure is only logged.
pub(crate) fn sweep_shared(deployment: &Deployment<'_>, record: &ReleaseRecord) {
    if let Err(failure) = assets::sweep(deployment, record) {
        tracing::warn!("{}: clearing up assets: {failure}", deployment.spec.app);
    }
    if let Err(failure) = outputs::sweep(deployment) {
        tracing::warn!("{}: clearing up outputs: {failure}", deployment.spec.app);
    }
}

fn find_failed(
    deployment: &Deployment<'_>,
    record: &ReleaseRecord,
    needed: KeepFailed,
) -> Result<Vec<String>, Failure> {
    let active = record::current(deployment.host, &deployment.layout)?;
    let mut all = Vec::new();
    for state in [ReleaseStatus::Failed, ReleaseStatus::Bad] {
        let mut failed = record.in_state(state);
        failed.retain(|name| Some(name) != active.as_ref());
        if needed == KeepFailed::Latest {
            failed.pop();
        }
        all.extend(failed);
    }
    Ok(all)
}

/// Whether a release that was never activated is still wanted.
fn is_wanted(deployment: &Deployment<'_>, record: &ReleaseRecord, name: &str) -> bool {
    let wanted = [
        deployment.spec.wanted.as_ref(),
        deployment.spec.build_ahead.as_ref(),
    ];
    record
        .find(name)
        .is_some_and(|entry| match entry.private_until {
            // A private release is never activated by itself, whatever sha is wanted.
            Some(_) => is_private(deployment, record, name),
            None => wanted.contains(&Some(&entry.sha)),
        })
}

/// Whether it is a private release that has not expired.
fn is_private(deployment: &Deployment<'_>, record: &ReleaseRecord, name: &str) -> bool {
    let until = record.find(name).and_then(|entry| entry.private_until);
    until.is_some_and(|until| deployment.host.clock.now() < until)
}

/// Removes what earlier passes left unfinished: hidden folders, and interrupted builds.
pub(crate) fn remove_unfinished(deployment: &Deployment<'_>, record: &mut ReleaseRecord) {
    let swept =
        remove_leftovers(deployment, record).and_then(|()| find_unfinished(deployment, record));
    match swept {
        Ok(names) => remove_idle(deployment, record, names),
        Err(failure) => tracing::warn!("{}: clearing up: {failure}", deployment.spec.app),
    }
}

/// Removes hidden folders: interrupted checkouts and removals.
pub(crate) fn remove_leftovers(
    deployment: &Deployment<'_>,
    record: &mut ReleaseRecord,
) -> Result<(), Failure> {
    let releases = deployment.layout.releases();
    for name in deployment.host.root.list(&releases)?.unwrap_or_default() {
        let Some(name) = name.to_str().filter(|name| is_leftover(name)) else {
            continue;
        };
        match deployment.host.root.remove_tree(&releases.join(name)) {
            Ok(()) => record.clear_failed_removal(name),
            Err(error) => record_not_removed(deployment, record, name, error.into()),
        }
    }
    Ok(())
}

/// Logs and records that something cannot be removed.
fn record_not_removed(
    deployment: &Deployment<'_>,
    record: &mut ReleaseRecord,
    name: &str,
    failure: Failure,
) {
    tracing::warn!("{}: cannot remove {name}: {failure}", deployment.spec.app);
    record.add_failed_removal(name, &failure);
}

/// Releases whose build was interrupted, except those that can be resumed for the wanted sha, and private
/// ones that have not expired.
pub(crate) fn find_unfinished(
    deployment: &Deployment<'_>,
    record: &ReleaseRecord,
) -> Result<Vec<String>, Failure> {
    let active = record::current(deployment.host, &deployment.layout)?;
    let taken_up = record
        .find_resumable(&deployment.sha)
        .map(|entry| entry.name.clone());
    let mut unfinished = record.in_state(ReleaseStatus::Building);
    unfinished.retain(|name| {
        ![&active, &taken_up].contains(&&Some(name.clone()))
            && !is_private(deployment, record, name)
    });
    Ok(unfinished)
}

/// Removes these releases, except those that a process runs in.
pub(crate) fn remove_idle(
    deployment: &Deployment<'_>,
    record: &mut ReleaseRecord,
    names: Vec<String>,
) {
    if names.is_empty() {
        return;
    }
    let Some((idle, in_use)) = partition_by_use(deployment, names) else {
        tracing::warn!(
            "{}: cannot read /proc, so no release is removed",
            deployment.spec.app
        );
        return;
    };
    for name in in_use {
        tracing::info!(
            "{}: release {name} is kept: a process runs in it",
            deployment.spec.app
        );
    }
    for name in idle {
        if let Err(failure) = remove_release(deployment, record, &name) {
            record_not_removed(deployment, record, &name, failure);
        }
    }
    if let Err(failure) = record.save_if_changed(deployment.host, &deployment.layout) {
        tracing::warn!("{}: {failure}", deployment.spec.app);
    }
}

/// Splits releases into idle ones and those that a process runs in. `None`: `/proc` cannot be read.
///
/// Every process of root or of the app's user counts. Those of other users, who may enter any release that
/// they can read, keep no more than `keep_releases` of them, the newest.
pub(crate) fn partition_by_use(
    deployment: &Deployment<'_>,
    names: Vec<String>,
) -> Option<(Vec<String>, Vec<String>)> {
    if names.is_empty() {
        return Some((names, Vec::new()));
    }
    let id = |name: &String| -> Option<FileId> {
        let meta = deployment
            .host
            .root
            .meta(&deployment.layout.release(name))
            .ok()??;
        Some((meta.device, meta.inode))
    };
    let mut ids: Vec<(Option<FileId>, String)> =
        names.into_iter().map(|name| (id(&name), name)).collect();
    // Newest first: names begin with a time.
    ids.sort_by(|one, other| other.1.cmp(&one.1));
    let folders: Vec<FileId> = ids.iter().filter_map(|(id, _)| *id).collect();
    // By folder: whether one of its processes is root's, trueup's or the app user's.
    let mut busy: BTreeMap<FileId, bool> = BTreeMap::new();
    let maker = deployment.host.root.current_uid();
    for process in processes::list()? {
        // Any user can let a set-user-id program wait: it counts as root's only if root started it.
        let is_trusted_uid = |uid| [0, maker].contains(uid) || Some(*uid) == deployment.owner.uid;
        let is_ours = process.uids.iter().all(is_trusted_uid);
        for folder in processes::folders_of_process(process.pid, &folders) {
            *busy.entry(folder).or_default() |= is_ours;
        }
    }
    let mut keep_quota = deployment.spec.keep_releases;
    let (mut idle, mut in_use) = (Vec::new(), Vec::new());
    for (id, name) in ids {
        let is_kept = match id.and_then(|id| busy.get(&id)) {
            Some(true) => true,
            Some(false) => {
                let is_kept = keep_quota > 0;
                keep_quota = keep_quota.saturating_sub(1);
                is_kept
            }
            None => false,
        };
        match is_kept {
            true => in_use.push(name),
            false => idle.push(name),
        }
    }
    Some((idle, in_use))
}

/// Hides a release, drops it from the record, and removes it, in this order: a kill in between leaves no
/// half-removed release that could pass for a complete one. One with a mount in it stays in place, complete.
pub(crate) fn remove_release(
    deployment: &Deployment<'_>,
    record: &mut ReleaseRecord,
    name: &str,
) -> Result<(), Failure> {
    let (host, layout) = (deployment.host, &deployment.layout);
    let (release, hidden) = (layout.release(name), layout.removed_release(name));
    if let Some(path) = host.root.mounts_below(&release)?.into_iter().next() {
        let verb = "remove";
        return Err(RootError::Mounted { verb, path }.into());
    }
    if host.root.meta(&release)?.is_some() {
        host.root.rename(&release, &hidden)?;
    }
    record.forget(name);
    record.clear_failed_removal(name);
    record.save(host, layout)?;
    if let Err(error) = host.root.remove_tree_idle(&hidden) {
        let hidden = hidden.file_name().unwrap_or_default().to_string_lossy();
        record_not_removed(deployment, record, &hidden, error.into());
    }
    Ok(host.root.remove_file(&layout.log(name))?)
}
