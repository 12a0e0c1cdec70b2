//! The restart that an operator asked for on all hosts.

use crate::owed::RecordStore;
use crate::ports::Host;
use crate::ports::services::ActiveState;
use crate::resource::Duty;
use crate::role::{Catalog, Resource, restart_cause};

/// Whether no running service of an app is owed a restart that the manifest asks for. A service that does not run will
/// start with everything in place.
pub(crate) fn has_restarted(catalog: &Catalog, app: &str, host: &Host) -> bool {
    let cause = restart_cause(app);
    let requests = catalog.restart_requests();
    let request = requests.get(&cause);
    let Some(request) = request.filter(|request| !request.fingerprint.is_empty()) else {
        return true;
    };
    let records = RecordStore::new(&host.root);
    let mut services = catalog.dependents(&cause);
    services.all(|resource| {
        let record = records.read(&resource.id);
        let is_recorded = record.is_some_and(|record| {
            let started_with = record.fingerprints.get(&Duty::Restart);
            let fingerprint = started_with.and_then(|with| with.get(&cause));
            fingerprint == Some(&request.fingerprint)
        });
        is_recorded || !is_running(resource, host)
    })
}

/// One whose state is unknown may run.
fn is_running(resource: &Resource, host: &Host) -> bool {
    let service = resource.body.service();
    let summary = service.and_then(|service| service.summary(host).ok());
    summary.is_none_or(|summary| summary.active == ActiveState::Running)
}
