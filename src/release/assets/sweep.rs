//! Removing compiled files that no kept release names. Only what a release of ours is on record as
//! having made: what else is in `shared/assets`, somebody else put there.
//!
//! One list is in memory at a time, besides the names that are to go: there is one for each release
//! that is kept, and for each that was removed within a day.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::SignedDuration;

use super::list::MAX_NAMES;
use super::{List, tend};
use crate::ports::root::{FileKind, UserTree};
use crate::release::Deployment;
use crate::release::layout::is_release_name;
use crate::release::record::Record;
use crate::resource::Failure;

/// For how long the files of a removed release are still there: a page of it may stand in somebody's
/// browser, or in a cache.
const GRACE: SignedDuration = SignedDuration::from_hours(24);

/// How much of names may go at once, in bytes, unless one list has more: the rest does next time.
const MAX_AT_ONCE: usize = 2 * MAX_NAMES;

/// The lists of an app.
#[derive(Default)]
struct Lists {
    /// Of releases whose files have to stay.
    needed: Vec<String>,
    /// Of releases whose days are over, and may go.
    over: Vec<String>,
    /// What those name.
    files: BTreeSet<String>,
}

pub(in crate::release) fn sweep(d: &Deployment<'_>, record: &Record) -> Result<(), Failure> {
    let Some(mut lists) = lists(d, record)? else {
        return Ok(());
    };
    for name in &lists.needed {
        let Some(list) = List::load(d.host, &d.layout, name)? else {
            return Ok(());
        };
        lists.files.retain(|file| !list.files.contains(file));
    }
    let removed = match d.host.root.user_tree(&d.layout.shared_assets())? {
        Some(shared) => remove(&shared, &lists.files),
        None => Ok(()),
    };
    for entry in record.entries() {
        if let Err(failure) = tend(d, &entry.name) {
            tracing::warn!("{}: the assets of {}: {failure}", d.spec.app, entry.name);
        }
    }
    removed?;
    // Last: killed before, the next time goes on.
    for name in &lists.over {
        d.host.root.remove(&d.layout.asset_list(name))?;
    }
    Ok(())
}

/// Takes the time of each release that has gone. `None`: nothing is to be removed.
fn lists(d: &Deployment<'_>, record: &Record) -> Result<Option<Lists>, Failure> {
    let (host, layout) = (d.host, &d.layout);
    let now = host.clock.now();
    let (mut lists, mut size, mut all_known) = (Lists::default(), 0, true);
    for file in host.root.list(&layout.asset_lists())?.unwrap_or_default() {
        let Some(name) = file.to_str().and_then(|file| file.strip_suffix(".json")) else {
            continue;
        };
        if !is_release_name(name) {
            continue;
        }
        let kept = record.find(name).is_some();
        let Some(mut list) = List::load(host, layout, name)? else {
            match kept {
                true => {
                    tracing::warn!(
                        "{}: the list of the assets of {name} cannot be read, so none are removed",
                        d.spec.app
                    );
                    all_known = false;
                }
                false => host.root.remove(&layout.asset_list(name))?,
            }
            continue;
        };
        // A clock that was set back must not keep them for a year.
        let gone = list.gone.filter(|gone| *gone <= now);
        match gone {
            Some(gone) if !kept && now.duration_since(gone) >= GRACE => {
                size += list.size();
                if lists.over.is_empty() || size <= MAX_AT_ONCE {
                    lists.over.push(name.to_owned());
                    lists.files.append(&mut list.files);
                }
                continue;
            }
            None if !kept => {
                list.gone = Some(now);
                list.save(host, layout, name)?;
            }
            _ => {}
        }
        lists.needed.push(name.to_owned());
    }
    Ok((all_known && !lists.over.is_empty()).then_some(lists))
}

/// Removes all that it can; the error is the first.
fn remove(shared: &UserTree, files: &BTreeSet<String>) -> Result<(), Failure> {
    let mut first = Ok(());
    for path in files.iter().map(Path::new) {
        let removed = match shared.find(path) {
            Ok(Some(entry)) if entry.kind == FileKind::File && entry.foreign.is_none() => {
                let folder = shared.folder(path.parent().unwrap_or(Path::new("")));
                let name = path.file_name().unwrap_or_default();
                folder.and_then(|folder| folder.map_or(Ok(()), |folder| folder.unlink(name)))
            }
            Ok(_) => Ok(()),
            Err(error) if error.is_out_of_bounds() => Ok(()),
            Err(error) => Err(error),
        };
        if first.is_ok() {
            first = removed;
        }
    }
    Ok(first?)
}
