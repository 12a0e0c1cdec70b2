//! Removes unneeded releases at once, on an operator's request; the rules are those of `keep`.

use serde::Serialize;

use crate::ports::Host;
use crate::ports::root::DiskUsage;
use crate::release::app::spec::ReleaseSpec;
use crate::release::deployment::{Deployment, deployment_of_app};
use crate::release::record::entry::ReleaseStatus;
use crate::release::record::overrides::Overrides;
use crate::release::record::{self, FailedRemoval, ReleaseRecord};
use crate::release::stages::keep::{self, KeepFailed};
use crate::release::stages::spare::prepare_spare;
use crate::resource::Failure;

/// What was removed, or would be in a dry run.
#[derive(Debug, Serialize)]
pub(crate) struct CleanResult {
    pub app: String,
    pub removed: Vec<RemovedRelease>,
    /// Not needed, but a process runs in it.
    pub in_use: Vec<String>,
    /// Not needed, but the removal failed.
    pub unremoved: Vec<FailedRemoval>,
}

/// One release.
#[derive(Debug, Serialize)]
pub(crate) struct RemovedRelease {
    pub release: String,
    pub state: ReleaseStatus,
    /// `None`: it could not be determined.
    pub size: Option<DiskUsage>,
}

/// Removes unneeded releases; with `dry_run` only lists them.
pub(crate) fn clean(
    spec: &ReleaseSpec,
    host: &Host,
    failed: KeepFailed,
    dry_run: bool,
) -> Result<CleanResult, Failure> {
    let deployment = deployment_of_app(spec, host)?;
    let mut record = ReleaseRecord::load(host, &deployment.layout)?;
    let mut names = keep::find_unneeded(&deployment, &record, failed)?;
    names.extend(keep::find_unfinished(&deployment, &record)?);
    let (idle, in_use) = keep::partition_by_use(&deployment, names)
        .ok_or_else(|| Failure::new("cannot read /proc, so releases in use are unknown"))?;
    let mut removed = Vec::new();
    for name in idle {
        let state = record.find(&name).map(|entry| entry.state);
        let size = host
            .root
            .disk_usage(&deployment.layout.release(&name))
            .ok()
            .flatten();
        if !dry_run && let Err(failure) = keep::remove_release(&deployment, &mut record, &name) {
            record.add_failed_removal(&name, &failure);
            continue;
        }
        removed.extend(state.map(|state| RemovedRelease {
            release: name,
            state,
            size,
        }));
    }
    if !dry_run {
        keep::remove_leftovers(&deployment, &mut record)?;
        keep::sweep_shared(&deployment, &record);
        record.save_if_changed(host, &deployment.layout)?;
    }
    Ok(CleanResult {
        app: spec.app.clone(),
        removed,
        in_use,
        unremoved: record.unremoved().to_vec(),
    })
}

/// Removes unneeded releases and prepares the spare, if the pass that should have done so was killed.
pub(crate) fn finish_cleanup(spec: &ReleaseSpec, host: &Host) -> Result<(), Failure> {
    let layout = spec.layout();
    let overrides = Overrides::load(host, &layout)?;
    if overrides.has_multiline_reason() {
        overrides.save(host, &layout)?;
    }
    let active = record::active(host, &layout, spec.keep_releases)?;
    let Some(sha) = active.and_then(|active| active.sha) else {
        return Ok(());
    };
    let deployment = Deployment::new(spec, &sha, host)?;
    let mut record = ReleaseRecord::load(host, &layout)?;
    keep::remove_unfinished(&deployment, &mut record);
    keep::prune(&deployment, &mut record)?;
    record.save_if_changed(host, &layout)?;
    match record.is_spare_attempted(&sha) {
        true => Ok(()),
        false => prepare_spare(&deployment, &mut record),
    }
}
