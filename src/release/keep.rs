//! The last stage: removing what is no longer needed, and never what is.

use std::ffi::OsStr;
use std::path::Path;

use super::Deployment;
use super::layout::is_leftover;
use super::record::{self, Record, Standing};
use crate::ports::root::Root;
use crate::resource::Failure;

/// Removes good releases beyond `keep_releases`, and failed ones but for the latest. Never the
/// active one, the good one before it, or one that a live process runs in.
pub(super) fn prune(d: &Deployment<'_>, record: &mut Record) -> Result<(), Failure> {
    let active = record::current(d.host, &d.layout)?;
    let mut good = record.in_state(Standing::Good);
    good.retain(|name| Some(name) != active.as_ref());
    // The active one, and at least the one to go back to.
    let beside_active = d.spec.keep_releases.saturating_sub(1).max(1);
    let surplus = good.len().saturating_sub(beside_active);
    remove_idle(d, record, good.drain(..surplus))?;
    failed(d, record)
}

/// Removes all failed releases but the latest, which is kept to be looked at.
pub(super) fn failed(d: &Deployment<'_>, record: &mut Record) -> Result<(), Failure> {
    let mut failed = record.in_state(Standing::Failed);
    let active = record::current(d.host, &d.layout)?;
    failed.retain(|name| Some(name) != active.as_ref());
    let surplus = failed.len().saturating_sub(1);
    remove_idle(d, record, failed.drain(..surplus))
}

/// Removes what earlier passes left unfinished: hidden folders, and releases that were being built.
pub(super) fn sweep(d: &Deployment<'_>, record: &mut Record) -> Result<(), Failure> {
    let releases = d.layout.releases();
    for name in d.host.root.list(&releases)?.unwrap_or_default() {
        if name.to_str().is_some_and(is_leftover) {
            d.host.root.remove_tree(&releases.join(name))?;
        }
    }
    let mut unfinished = record.in_state(Standing::Building);
    let active = record::current(d.host, &d.layout)?;
    unfinished.retain(|name| Some(name) != active.as_ref());
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
/// Of the machine even for a sandbox, because that is where its processes are.
fn places_of_processes() -> Option<Vec<std::path::PathBuf>> {
    let machine = Root::real().ok()?;
    let proc = Path::new("/proc");
    let is_process = |name: &OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let mut places = Vec::new();
    for process in machine.list(proc).ok()?? {
        if is_process(&process) {
            let process = proc.join(process);
            // A process that has just ended, or is not ours to look at, has none.
            for what in ["cwd", "exe"] {
                places.extend(machine.read_link(&process.join(what)).ok().flatten());
            }
        }
    }
    (!places.is_empty()).then_some(places)
}

/// Whether a place is in the release of this name. By its last parts only: behind links, bind mounts
/// and mount namespaces the beginning may be spelt in other ways, and a release kept for another
/// app's process does no harm.
fn is_inside(place: &Path, name: &str) -> bool {
    let parts: Vec<&OsStr> = place.iter().collect();
    parts
        .windows(2)
        .any(|pair| pair[0] == "releases" && pair[1] == name)
}
