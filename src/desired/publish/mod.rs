//! Publishes shas: reads the manifest, edits it, and writes it back if nobody else wrote in between; retries
//! otherwise.

use super::edit::{EditError, PublishRequest};
use crate::ports::store::Store;

mod access;
mod attempt;
mod canary;
mod error;
mod history;
mod previous;
mod remembered;
mod reports;
mod sign;
mod summary;
mod versions;

use attempt::{Attempt, Publication};
pub(crate) use error::PublishError;
pub(crate) use history::{history_key, verify_published};
pub(crate) use reports::{FleetReports, ReportedHost, ReportedHosts, ServedBefore};
pub(crate) use sign::Signing;
use sign::above_fleet_problem;
pub(crate) use summary::PublishSummary;

/// Applies a request to the manifest `key`. `fleet` knows the hosts of its environment: a canary has to be among them, and they
/// have to be able to take part in rollouts. With `signing`, the environment is signed. `backoff` waits before the next attempt, or returns `false` to give
/// up; its argument counts those that were made.
pub(crate) fn publish(
    store: &dyn Store,
    key: &str,
    request: &PublishRequest,
    signing: Option<&Signing<'_>>,
    fleet: &mut dyn FleetReports,
    backoff: &mut dyn FnMut(u32) -> bool,
) -> Result<PublishSummary, PublishError> {
    if signing.is_some() && request.above_fleet.is_some() {
        return Err(EditError::request(above_fleet_problem(&request.environment)).into());
    }
    let mut publication = Publication::new((store, key), request, signing, fleet);
    let mut attempts = 0;
    loop {
        match publication.attempt()? {
            Attempt::Done(summary) => return Ok(*summary),
            Attempt::Prepared => {}
            Attempt::Lost => {
                attempts += 1;
                if !backoff(attempts) {
                    let manifest = publication.manifest;
                    return Err(PublishError::Busy { manifest, attempts });
                }
            }
        }
    }
}

#[cfg(test)]
mod canary_tests;
#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod tests;
