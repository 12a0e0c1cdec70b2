//! Removing now, on an operator's word, what is needed no more; the rules are those of `keep`.

use serde::Serialize;

use super::entry::Standing;
use super::keep::{self, Failed};
use super::orders::Orders;
use super::record::{self, Record, Unremoved};
use super::{Deployment, Spec, of_app};
use crate::ports::Host;
use crate::ports::root::Usage;
use crate::resource::Failure;

/// What was removed, or would be.
#[derive(Debug, Serialize)]
pub struct Cleaned {
    pub app: String,
    pub removed: Vec<Removed>,
    /// Not needed, but a process runs in it.
    pub in_use: Vec<String>,
    /// Not needed, but something is in the way.
    pub unremoved: Vec<Unremoved>,
}

/// One release.
#[derive(Debug, Serialize)]
pub struct Removed {
    pub release: String,
    pub state: Standing,
    /// `None`: it could not be looked at.
    pub size: Option<Usage>,
}

/// Removes what is not needed. `dry`: only says what that is.
pub fn clean(spec: &Spec, host: &Host, failed: Failed, dry: bool) -> Result<Cleaned, Failure> {
    let d = of_app(spec, host)?;
    let mut record = Record::load(host, &d.layout)?;
    let mut names = keep::unneeded(&d, &record, failed)?;
    names.extend(keep::unfinished(&d, &record)?);
    let (idle, in_use) = keep::apart(&d, names).ok_or_else(|| {
        Failure::new("/proc cannot be read, so it cannot be told which releases are in use")
    })?;
    let mut removed = Vec::new();
    for name in idle {
        let state = record.find(&name).map(|entry| entry.state);
        let size = host.root.usage(&d.layout.release(&name)).ok().flatten();
        if !dry && let Err(failure) = keep::remove(&d, &mut record, &name) {
            record.cannot_remove(&name, &failure);
            continue;
        }
        removed.extend(state.map(|state| Removed {
            release: name,
            state,
            size,
        }));
    }
    if !dry {
        keep::remove_leftovers(&d, &mut record)?;
        record.save_if_changed(host, &d.layout)?;
    }
    Ok(Cleaned {
        app: spec.app.clone(),
        removed,
        in_use,
        unremoved: record.unremoved().to_vec(),
    })
}

/// Removes what is no longer needed and makes ready what comes next, where the pass that should have
/// done so was killed.
pub fn tidy(spec: &Spec, host: &Host) -> Result<(), Failure> {
    let layout = spec.layout();
    let orders = Orders::load(host, &layout)?;
    if orders.tells_too_much() {
        orders.save(host, &layout)?;
    }
    let active = record::active(host, &layout, spec.keep_releases)?;
    let Some(sha) = active.and_then(|active| active.sha) else {
        return Ok(());
    };
    let d = Deployment::new(spec, &sha, host)?;
    let mut record = Record::load(host, &layout)?;
    keep::sweep(&d, &mut record);
    keep::prune(&d, &mut record)?;
    record.save_if_changed(host, &layout)?;
    match record.is_stocked(&sha) {
        true => Ok(()),
        false => super::stock_up(&d, &mut record),
    }
}
