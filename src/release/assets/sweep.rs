//! Removing compiled files that no kept release names. Only what a release of ours is on record as
//! having made: what else is in `shared/assets`, somebody else put there.
//!
//! One list is in memory at a time, besides the names that are to go: there is one for each release
//! that is kept, and for each that was removed within a day.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::SignedDuration;

use super::asset_list::MAX_NAME_BYTES;
use super::{AssetList, update_links};
use crate::ports::root::{FileKind, UserTree};
use crate::release::Deployment;
use crate::release::layout::is_release_name;
use crate::release::record::Record;
use crate::resource::Failure;

/// For how long the files of a removed release are still there: a page of it may stand in somebody's
/// browser, or in a cache.
const GRACE_PERIOD: SignedDuration = SignedDuration::from_hours(24);

/// How much of names may go at once, in bytes, unless one list has more: the rest does next time.
const MAX_EXPIRED_BYTES: usize = 2 * MAX_NAME_BYTES;

/// The lists of an app.
#[derive(Default)]
struct ExpiredAssets {
    /// Of releases whose files have to stay.
    needed_lists: Vec<String>,
    /// Of releases whose days are over, and may go.
    expired_lists: Vec<String>,
    /// What those name.
    files: BTreeSet<String>,
}

pub(in crate::release) fn sweep(d: &Deployment<'_>, record: &Record) -> Result<(), Failure> {
    let Some(mut lists) = find_expired(d, record)? else {
        return Ok(());
    };
    for name in &lists.needed_lists {
        let Some(list) = AssetList::load(d.host, &d.layout, name)? else {
            return Ok(());
        };
        lists.files.retain(|file| !list.files.contains(file));
    }
    let removed = match d.host.root.open_user_tree(&d.layout.shared_assets())? {
        Some(shared) => remove_files(&shared, &lists.files),
        None => Ok(()),
    };
    for entry in record.entries() {
        if let Err(failure) = update_links(d, &entry.name) {
            tracing::warn!("{}: the assets of {}: {failure}", d.spec.app, entry.name);
        }
    }
    removed?;
    // Last: killed before, the next time goes on.
    for name in &lists.expired_lists {
        d.host.root.remove_file(&d.layout.asset_list(name))?;
    }
    Ok(())
}

/// Takes the time of each release that has gone. `None`: nothing is to be removed.
fn find_expired(d: &Deployment<'_>, record: &Record) -> Result<Option<ExpiredAssets>, Failure> {
    let (host, layout) = (d.host, &d.layout);
    let now = host.clock.now();
    let (mut lists, mut size, mut all_known) = (ExpiredAssets::default(), 0, true);
    for file in host.root.list(&layout.asset_lists())?.unwrap_or_default() {
        let Some(name) = file.to_str().and_then(|file| file.strip_suffix(".json")) else {
            continue;
        };
        if !is_release_name(name) {
            continue;
        }
        let kept = record.find(name).is_some();
        let Some(mut list) = AssetList::load(host, layout, name)? else {
            match kept {
                true => {
                    tracing::warn!(
                        "{}: the list of the assets of {name} cannot be read, so none are removed",
                        d.spec.app
                    );
                    all_known = false;
                }
                false => host.root.remove_file(&layout.asset_list(name))?,
            }
            continue;
        };
        // A clock that was set back must not keep them for a year.
        let gone = list.removed_at.filter(|gone| *gone <= now);
        match gone {
            Some(gone) if !kept && now.duration_since(gone) >= GRACE_PERIOD => {
                size += list.name_bytes();
                if lists.expired_lists.is_empty() || size <= MAX_EXPIRED_BYTES {
                    lists.expired_lists.push(name.to_owned());
                    lists.files.append(&mut list.files);
                }
                continue;
            }
            None if !kept => {
                list.removed_at = Some(now);
                list.save(host, layout, name)?;
            }
            _ => {}
        }
        lists.needed_lists.push(name.to_owned());
    }
    Ok((all_known && !lists.expired_lists.is_empty()).then_some(lists))
}

/// Removes all that it can; the error is the first.
fn remove_files(shared: &UserTree, files: &BTreeSet<String>) -> Result<(), Failure> {
    let mut first = Ok(());
    for path in files.iter().map(Path::new) {
        let removed = match shared.find(path) {
            Ok(Some(entry)) if entry.kind == FileKind::File && entry.foreign_owner.is_none() => {
                let folder = shared.open_folder(path.parent().unwrap_or(Path::new("")));
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
