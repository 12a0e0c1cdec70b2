//! Removing compiled files that no kept release names. Only what a release of ours is on record as
//! having made: what else is in `shared/assets`, somebody else put there.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::SignedDuration;

use super::{List, tend};
use crate::ports::root::FileKind;
use crate::release::Deployment;
use crate::release::layout::is_release_name;
use crate::release::record::Record;
use crate::resource::Failure;

/// For how long the files of a removed release are still there: a page of it may stand in somebody's
/// browser, or in a cache.
const GRACE: SignedDuration = SignedDuration::from_hours(24);

pub(in crate::release) fn sweep(d: &Deployment<'_>, record: &Record) -> Result<(), Failure> {
    let (host, layout) = (d.host, &d.layout);
    let now = host.clock.now();
    let mut needed = BTreeSet::new();
    let mut over: Vec<(String, BTreeSet<String>)> = Vec::new();
    for file in host.root.list(&layout.asset_lists())?.unwrap_or_default() {
        let Some(name) = file.to_str().and_then(|file| file.strip_suffix(".json")) else {
            continue;
        };
        if !is_release_name(name) {
            continue;
        }
        let kept = record.find(name).is_some();
        let Some(mut list) = List::load(host, layout, name)? else {
            if kept {
                tracing::warn!(
                    "{}: the list of the assets of {name} cannot be read, so none are removed",
                    d.spec.app
                );
                return Ok(());
            }
            host.root.remove(&layout.asset_list(name))?;
            continue;
        };
        // A clock that was set back must not keep them for a year.
        let gone = list.gone.filter(|gone| *gone <= now);
        match gone {
            Some(gone) if !kept && now.duration_since(gone) >= GRACE => {
                over.push((name.to_owned(), list.files));
                continue;
            }
            None if !kept => {
                list.gone = Some(now);
                list.save(host, layout, name)?;
            }
            _ => {}
        }
        needed.append(&mut list.files);
    }
    if over.is_empty() {
        return Ok(());
    }
    if let Some(shared) = host.root.open_folder(&layout.shared_assets())? {
        for file in over.iter().flat_map(|(_, files)| files) {
            let path = Path::new(file);
            let folder = shared.inside(path.parent().unwrap_or(Path::new("")))?;
            let Some((folder, name)) = folder.zip(path.file_name()) else {
                continue;
            };
            let kind = folder.find(name)?.map(|meta| meta.kind);
            if kind == Some(FileKind::File) && !needed.contains(file) {
                folder.remove(name)?;
            }
        }
    }
    for entry in record.entries() {
        tend(d, &entry.name)?;
    }
    // Last: killed before, the next time goes on.
    for (name, _) in &over {
        host.root.remove(&layout.asset_list(name))?;
    }
    Ok(())
}
