//! The last stage: removing what is no longer needed, and never what is.

use std::ffi::OsStr;
use std::path::Path;

use super::Deployment;
use super::assets;
use super::entry::Standing;
use super::layout::is_leftover;
use super::orders::Orders;
use super::record::{self, Record};
use crate::ports::processes;
use crate::resource::Failure;

/// Which of the failed and the bad releases are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// The latest of each, to be looked at.
    Latest,
    None,
}

/// Removes what [`unneeded`] names.
pub(super) fn prune(d: &Deployment<'_>, record: &mut Record) -> Result<(), Failure> {
    let names = unneeded(d, record, Failed::Latest)?;
    remove_idle(d, record, names)?;
    clear_assets(d, record);
    Ok(())
}

/// Good releases beyond `keep_releases`, releases that were never activated and wait for nobody, and
/// failed ones. Never the active one, the good one before it, one that is to be activated next or
/// gone back to, or a private one within its days.
pub(super) fn unneeded(
    d: &Deployment<'_>,
    record: &Record,
    failed: Failed,
) -> Result<Vec<String>, Failure> {
    let active = record::current(d.host, &d.layout)?;
    let orders = Orders::load(d.host, &d.layout)?;
    let pinned = orders.pin.map(|pin| pin.release);
    let trial = record.trial();
    let from = trial.and_then(|trial| trial.from.clone());
    let needed = |name: &String| [&active, &pinned, &from].contains(&&Some(name.clone()));
    let mut unused = record.in_state(Standing::Built);
    unused.retain(|name| !needed(name) && !is_awaited(d, record, name));
    let mut good = record.in_state(Standing::Good);
    good.retain(|name| !needed(name) && !is_private(d, record, name));
    // The active one, and at least the one to go back to.
    let beside_active = d.spec.keep_releases.saturating_sub(1).max(1);
    good.truncate(good.len().saturating_sub(beside_active));
    let failed = failed_ones(d, record, failed)?;
    Ok([unused, good, failed].concat())
}

/// Removes all failed and all bad releases but the latest of each.
pub(super) fn failed(d: &Deployment<'_>, record: &mut Record) -> Result<(), Failure> {
    let names = failed_ones(d, record, Failed::Latest)?;
    remove_idle(d, record, names)?;
    clear_assets(d, record);
    Ok(())
}

/// What stays for once does no harm, so that it is only told.
fn clear_assets(d: &Deployment<'_>, record: &Record) {
    if let Err(failure) = assets::sweep(d, record) {
        tracing::warn!("{}: clearing up assets: {failure}", d.spec.app);
    }
}

fn failed_ones(
    d: &Deployment<'_>,
    record: &Record,
    needed: Failed,
) -> Result<Vec<String>, Failure> {
    let active = record::current(d.host, &d.layout)?;
    let mut all = Vec::new();
    for state in [Standing::Failed, Standing::Bad] {
        let mut failed = record.in_state(state);
        failed.retain(|name| Some(name) != active.as_ref());
        if needed == Failed::Latest {
            failed.pop();
        }
        all.extend(failed);
    }
    Ok(all)
}

/// Whether a release that was never activated is still wanted.
fn is_awaited(d: &Deployment<'_>, record: &Record, name: &str) -> bool {
    let wanted = [d.spec.wanted.as_ref(), d.spec.next.as_ref()];
    record
        .find(name)
        .is_some_and(|entry| match entry.private_until {
            // Nobody else gets it, whatever is wanted.
            Some(_) => is_private(d, record, name),
            None => wanted.contains(&Some(&entry.sha)),
        })
}

/// Whether somebody built it for himself and its days are not over.
fn is_private(d: &Deployment<'_>, record: &Record, name: &str) -> bool {
    let until = record.find(name).and_then(|entry| entry.private_until);
    until.is_some_and(|until| d.host.clock.now() < until)
}

/// Removes what earlier passes left unfinished: hidden folders, and releases that were being built.
pub(super) fn sweep(d: &Deployment<'_>, record: &mut Record) -> Result<(), Failure> {
    remove_leftovers(d)?;
    let names = unfinished(d, record)?;
    remove_idle(d, record, names)
}

/// Removes hidden folders: releases that were being laid out or removed.
pub(super) fn remove_leftovers(d: &Deployment<'_>) -> Result<(), Failure> {
    let releases = d.layout.releases();
    for name in d.host.root.list(&releases)?.unwrap_or_default() {
        if name.to_str().is_some_and(is_leftover) {
            d.host.root.remove_tree(&releases.join(name))?;
        }
    }
    Ok(())
}

/// Releases that were being built. What was begun for the wanted sha, or by somebody for himself,
/// and can be taken up again is not among them.
pub(super) fn unfinished(d: &Deployment<'_>, record: &Record) -> Result<Vec<String>, Failure> {
    let active = record::current(d.host, &d.layout)?;
    let taken_up = record.unfinished(&d.sha).map(|entry| entry.name.clone());
    let mut unfinished = record.in_state(Standing::Building);
    unfinished.retain(|name| {
        ![&active, &taken_up].contains(&&Some(name.clone())) && !is_private(d, record, name)
    });
    Ok(unfinished)
}

fn remove_idle(d: &Deployment<'_>, record: &mut Record, names: Vec<String>) -> Result<(), Failure> {
    if names.is_empty() {
        return Ok(());
    }
    let Some((idle, in_use)) = apart(names) else {
        tracing::warn!(
            "{}: /proc cannot be read, so no release is removed",
            d.spec.app
        );
        return Ok(());
    };
    for name in in_use {
        tracing::info!(
            "{}: release {name} is kept: a process runs in it",
            d.spec.app
        );
    }
    for name in idle {
        remove(d, record, &name)?;
    }
    Ok(())
}

/// Releases that no process runs in, and those that one does. `None`: it cannot be told.
pub(super) fn apart(names: Vec<String>) -> Option<(Vec<String>, Vec<String>)> {
    if names.is_empty() {
        return Some((names, Vec::new()));
    }
    let busy = places_of_processes()?;
    let is_busy = |name: &String| busy.iter().any(|place| is_inside(place, name));
    Some(names.into_iter().partition(|name| !is_busy(name)))
}

/// Hidden first, forgotten next, removed last: a kill in between leaves no half-removed release
/// that could be taken for a whole one.
pub(super) fn remove(d: &Deployment<'_>, record: &mut Record, name: &str) -> Result<(), Failure> {
    let (host, layout) = (d.host, &d.layout);
    let hidden = layout.removed(name);
    if host.root.meta(&layout.release(name))?.is_some() {
        host.root.rename(&layout.release(name), &hidden)?;
    }
    record.forget(name);
    record.save(host, layout)?;
    host.root.remove_tree_at_leisure(&hidden)?;
    Ok(host.root.remove(&layout.log(name))?)
}

/// The working folders and programs of all processes of this machine, as the kernel names them.
fn places_of_processes() -> Option<Vec<std::path::PathBuf>> {
    let all = processes::all()?;
    Some(all.into_iter().flat_map(|process| process.places).collect())
}

/// Whether a place is in the release of this name. By its last parts only: behind links, bind mounts
/// and mount namespaces the beginning may be spelt in other ways, and a release kept for another
/// app's process does no harm.
pub(super) fn is_inside(place: &Path, name: &str) -> bool {
    let parts: Vec<&OsStr> = place.iter().collect();
    parts
        .windows(2)
        .any(|pair| pair[0] == "releases" && pair[1] == name)
}
