//! The last stage: removing what is no longer needed, and never what is.

use std::ffi::OsStr;
use std::path::Path;

use super::Deployment;
use super::entry::Standing;
use super::layout::is_leftover;
use super::record::{self, Record};
use crate::ports::processes;
use crate::resource::Failure;

/// Removes good releases beyond `keep_releases`, and all but the latest of those that failed or were
/// never activated. Never the active one, the good one before it, one that is to be activated next,
/// a private one within its days, or one that a live process runs in.
pub(super) fn prune(d: &Deployment<'_>, record: &mut Record) -> Result<(), Failure> {
    let active = record::current(d.host, &d.layout)?;
    let mut unused = record.in_state(Standing::Built);
    unused.retain(|name| Some(name) != active.as_ref() && !is_awaited(d, record, name));
    remove_idle(d, record, unused.into_iter())?;
    let mut good = record.in_state(Standing::Good);
    good.retain(|name| Some(name) != active.as_ref() && !is_private(d, record, name));
    // The active one, and at least the one to go back to.
    let beside_active = d.spec.keep_releases.saturating_sub(1).max(1);
    let surplus = good.len().saturating_sub(beside_active);
    remove_idle(d, record, good.drain(..surplus))?;
    failed(d, record)
}

/// Removes all failed and all bad releases but the latest of each, which is kept to be looked at.
pub(super) fn failed(d: &Deployment<'_>, record: &mut Record) -> Result<(), Failure> {
    let active = record::current(d.host, &d.layout)?;
    for state in [Standing::Failed, Standing::Bad] {
        let mut failed = record.in_state(state);
        failed.retain(|name| Some(name) != active.as_ref());
        let surplus = failed.len().saturating_sub(1);
        remove_idle(d, record, failed.drain(..surplus))?;
    }
    Ok(())
}

/// Whether a release that was never activated is still wanted.
fn is_awaited(d: &Deployment<'_>, record: &Record, name: &str) -> bool {
    let sha = record.find(name).map(|entry| &entry.sha);
    let wanted = [d.spec.wanted.as_ref(), d.spec.next.as_ref()];
    (sha.is_some() && wanted.contains(&sha)) || is_private(d, record, name)
}

/// Whether somebody built it for himself and its days are not over.
fn is_private(d: &Deployment<'_>, record: &Record, name: &str) -> bool {
    let until = record.find(name).and_then(|entry| entry.private_until);
    until.is_some_and(|until| d.host.clock.now() < until)
}

/// Removes what earlier passes left unfinished: hidden folders, and releases that were being built.
pub(super) fn sweep(d: &Deployment<'_>, record: &mut Record) -> Result<(), Failure> {
    let releases = d.layout.releases();
    for name in d.host.root.list(&releases)?.unwrap_or_default() {
        if name.to_str().is_some_and(is_leftover) {
            d.host.root.remove_tree(&releases.join(name))?;
        }
    }
    let active = record::current(d.host, &d.layout)?;
    // What was begun for the wanted sha and can be taken up again is left.
    let taken_up = record.unfinished(&d.sha).map(|entry| entry.name.clone());
    let mut unfinished = record.in_state(Standing::Building);
    unfinished.retain(|name| Some(name) != active.as_ref() && Some(name) != taken_up.as_ref());
    remove_idle(d, record, unfinished.into_iter())
}

fn remove_idle(
    d: &Deployment<'_>,
    record: &mut Record,
    names: impl ExactSizeIterator<Item = String>,
) -> Result<(), Failure> {
    if names.len() == 0 {
        return Ok(());
    }
    let Some(busy) = places_of_processes() else {
        tracing::warn!(
            "{}: /proc cannot be read, so no release is removed",
            d.spec.app
        );
        return Ok(());
    };
    for name in names {
        if busy.iter().any(|place| is_inside(place, &name)) {
            tracing::info!(
                "{}: release {name} is kept: a process runs in it",
                d.spec.app
            );
            continue;
        }
        remove(d, record, &name)?;
    }
    Ok(())
}

/// Hidden first, forgotten next, removed last: a kill in between leaves no half-removed release
/// that could be taken for a whole one.
fn remove(d: &Deployment<'_>, record: &mut Record, name: &str) -> Result<(), Failure> {
    let (host, layout) = (d.host, &d.layout);
    let hidden = layout.removed(name);
    if host.root.meta(&layout.release(name))?.is_some() {
        host.root.rename(&layout.release(name), &hidden)?;
    }
    record.forget(name);
    record.save(host, layout)?;
    host.root.remove_tree(&hidden)?;
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
