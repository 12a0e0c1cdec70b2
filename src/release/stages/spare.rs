//! Prepares a spare tree once nothing else is to be done.

use super::materialise;
use crate::release::deployment::Deployment;
use crate::release::record::ReleaseRecord;
use crate::release::source::mirror;
use crate::resource::Failure;

/// Prepares a spare for the next release, at the lowest priority. Contacts no server; on a stop request it
/// leaves the rest to the next pass.
pub(crate) fn prepare_spare(
    deployment: &Deployment<'_>,
    record: &mut ReleaseRecord,
) -> Result<(), Failure> {
    if deployment.host.stop.is_set() {
        return Ok(());
    }
    let made = match mirror::cached_with_commit(deployment) {
        Some(mirror) if !materialise::spare_is_ready(deployment)? => {
            materialise::make_spare(deployment, &mirror)
        }
        _ => Ok(()),
    };
    if deployment.host.stop.is_set() {
        return Ok(());
    }
    // Also after a failure, for lack of space say: not every pass tries again.
    record.set_spare_attempted(&deployment.sha);
    record.save(deployment.host, &deployment.layout)?;
    made
}
