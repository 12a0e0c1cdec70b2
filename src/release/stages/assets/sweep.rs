//! Removes compiled files that no kept release uses. Only files that a release of ours has recorded are
//! removed: other users or programs put the rest into `shared/assets`.
//!
//! Holds one list at a time in memory besides the names to remove: there is one list for each kept release,
//! and for each that was removed within a day.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::SignedDuration;

use super::asset_list::MAX_NAME_BYTES;
use super::{AssetList, update_links};
use crate::ports::root::{FileKind, UserTree};
use crate::release::app::layout::is_release_name;
use crate::release::deployment::Deployment;
use crate::release::record::ReleaseRecord;
use crate::resource::Failure;

/// How long the files of a removed release stay: a browser or a cache may still have a page of it.
const GRACE_PERIOD: SignedDuration = SignedDuration::from_hours(24);

/// Maximum total length of names to remove at once, in bytes, unless one list has more; the next sweep
/// removes the rest.
const MAX_EXPIRED_BYTES: usize = 2 * MAX_NAME_BYTES;

/// The asset lists of an app.
#[derive(Default)]
struct ExpiredAssets {
    /// Lists of releases whose files have to stay.
    needed_lists: Vec<String>,
    /// Lists of releases whose grace period is over.
    expired_lists: Vec<String>,
    /// The files on the expired lists.
    files: BTreeSet<String>,
}

pub(crate) fn sweep(deployment: &Deployment<'_>, record: &ReleaseRecord) -> Result<(), Failure> {
    let Some(mut lists) = find_expired(deployment, record)? else {
        return Ok(());
    };
    for name in &lists.needed_lists {
        let Some(list) = AssetList::load(deployment.host, &deployment.layout, name)? else {
            return Ok(());
        };
        lists.files.retain(|file| !list.files.contains(file));
    }
    let removed = match deployment
        .host
        .root
        .open_user_tree(&deployment.layout.shared_assets())?
    {
        Some(shared) => remove_files(&shared, &lists.files),
        None => Ok(()),
    };
    for entry in record.entries() {
        if let Err(failure) = update_links(deployment, &entry.name) {
            tracing::warn!(
                "{}: the assets of {}: {failure}",
                deployment.spec.app,
                entry.name
            );
        }
    }
    removed?;
    // Removed last: if the pass is killed before, the next sweep continues.
    for name in &lists.expired_lists {
        deployment
            .host
            .root
            .remove_file(&deployment.layout.asset_list(name))?;
    }
    Ok(())
}

/// Finds the expired lists; records the time at which each release was found removed. `None`: nothing to
/// remove.
fn find_expired(
    deployment: &Deployment<'_>,
    record: &ReleaseRecord,
) -> Result<Option<ExpiredAssets>, Failure> {
    let (host, layout) = (deployment.host, &deployment.layout);
    let now = host.clock.now();
    let (mut lists, mut size, mut all_known) = (ExpiredAssets::default(), 0, true);
    for file in host.root.list(&layout.asset_lists())?.unwrap_or_default() {
        let Some(name) = file.to_str().and_then(|file| file.strip_suffix(".json")) else {
            continue;
        };
        if !is_release_name(name) {
            continue;
        }
        let is_kept = record.find(name).is_some();
        let Some(mut list) = AssetList::load(host, layout, name)? else {
            match is_kept {
                true => {
                    tracing::warn!(
                        "{}: cannot read the asset list of {name}, so no assets are removed",
                        deployment.spec.app
                    );
                    all_known = false;
                }
                false => host.root.remove_file(&layout.asset_list(name))?,
            }
            continue;
        };
        // Ignores times in the future, or a clock that was set back would keep the files for a year.
        let gone = list.removed_at.filter(|gone| *gone <= now);
        match gone {
            Some(gone) if !is_kept && now.duration_since(gone) >= GRACE_PERIOD => {
                size += list.name_bytes();
                if lists.expired_lists.is_empty() || size <= MAX_EXPIRED_BYTES {
                    lists.expired_lists.push(name.to_owned());
                    lists.files.append(&mut list.files);
                }
                continue;
            }
            None if !is_kept => {
                list.removed_at = Some(now);
                list.save(host, layout, name)?;
            }
            _ => {}
        }
        lists.needed_lists.push(name.to_owned());
    }
    Ok((all_known && !lists.expired_lists.is_empty()).then_some(lists))
}

/// Removes as many files as possible; returns the first error.
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
