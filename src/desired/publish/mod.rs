//! Publishes shas: reads the manifest, edits it, and writes it back if nobody else wrote in between; retries
//! otherwise.

use super::Manifest;
use super::edit::{EditError, ManifestEdit, PublishRequest, ShaChange, edit_manifest};
use crate::ports::store::{GetOutcome, PutOutcome, Store, StoreError, WriteCondition};
use crate::problem::Problem;

mod access;
mod canary;
mod error;
mod history;
mod previous;
mod remembered;
mod reports;
mod sign;
mod versions;

use access::check_access;
use canary::check_canaries;
pub(crate) use error::PublishError;
use history::{HistoryFacts, HistoryMemory, record_history};
pub(crate) use history::{history_key, verify_published};
use previous::keep_previous;
use remembered::Remembered;
pub(crate) use reports::{FleetReports, ReportedHost, ReportedHosts, ServedBefore};
pub(crate) use sign::Signing;
use sign::{CurrentManifest, LastSignature, above_fleet_problem, check_signing, sign_environment};
use versions::outdated_hosts;

/// The result of a publish request.
#[derive(Debug, Clone)]
pub(crate) struct PublishSummary {
    /// As an operator writes it: the store and the key.
    pub manifest: String,
    /// Whether a manifest was written; if not, every app was at its sha already.
    pub written: bool,
    pub generation: Option<u64>,
    pub changes: Vec<ShaChange>,
    pub warnings: Vec<Problem>,
    /// The text before, and what was written, or would be without [`PublishRequest::dry_run`]. `None`: it stays as it is.
    pub texts: Option<ManifestTexts>,
    /// What the manifest says then.
    pub desired: Manifest,
}

/// A manifest before and after a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ManifestTexts {
    /// Empty if there was none.
    pub before: String,
    pub after: String,
}

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
    let manifest = format!("{}/{key}", store.address());
    if signing.is_some() && request.above_fleet.is_some() {
        return Err(EditError::request(above_fleet_problem(&request.environment)).into());
    }
    let mut fleet = Remembered::new(fleet);
    let last_signature = LastSignature::default();
    let mut history = HistoryMemory::default();
    let mut attempts = 0;
    loop {
        let found = match store.get(key, None)? {
            GetOutcome::Object(object) => Some(object),
            GetOutcome::Missing | GetOutcome::Unchanged => None,
        };
        let body = found.as_ref().map(|object| object.body.as_slice());
        let mut request = PublishRequest {
            now: store.server_time().unwrap_or(request.now),
            signed_for: signing.map(|_| manifest.clone()),
            ..request.clone()
        };
        let mut edited = edit_manifest(&manifest, body, &request)?;
        let before = body.and_then(|body| Manifest::parse(&manifest, body).ok());
        if edited.body.is_some() {
            let (kept, warnings) = keep_previous(before.as_ref(), &edited, &request, &mut fleet);
            if !kept.is_empty() {
                request.keeps_previous = kept;
                edited = edit_manifest(&manifest, body, &request)?;
            }
            edited.warnings.extend(warnings);
        }
        let text = |body: &[u8]| String::from_utf8_lossy(body).into_owned();
        let texts = edited.body.as_deref().map(|after| ManifestTexts {
            before: text(body.unwrap_or_default()),
            after: text(after),
        });
        let done = |written: bool, edited: ManifestEdit| PublishSummary {
            manifest: manifest.clone(),
            written,
            generation: edited.generation,
            changes: edited.changes,
            warnings: edited.warnings,
            texts,
            desired: edited.manifest,
        };
        if edited.body.is_some() {
            let checked = check_canaries(
                (&manifest, body.unwrap_or_default()),
                &mut edited,
                &request,
                &mut fleet,
            )
            .and_then(|()| check_access(&edited, &request, &mut fleet));
            checked.map_err(EditError::manifest)?;
            let outdated = outdated_hosts(before.as_ref(), &edited, &request, &mut fleet);
            edited.warnings.extend(outdated);
        }
        let Some(new) = edited.body.take() else {
            return Ok(done(false, edited));
        };
        let current = body.unwrap_or_default();
        check_signing(store, &manifest, current, &request.environment, signing)?;
        if request.dry_run {
            return Ok(done(false, edited));
        }
        let new = match signing {
            Some(signing) => {
                let facts = match signing.trusts_current {
                    true => HistoryFacts::default(),
                    false => history.facts(store, &manifest, current, &request.environment)?,
                };
                let current = CurrentManifest {
                    body: current,
                    history: facts,
                };
                match sign_environment(
                    &manifest,
                    (&current, &new),
                    &request.environment,
                    (signing, &last_signature),
                    request.now,
                ) {
                    Ok(signed) => signed,
                    Err(problem) => {
                        // Another publisher may have come first, and the history knows of it already.
                        let etag = found.as_ref().map(|found| &found.etag);
                        let is_same = matches!(store.get(key, etag)?, GetOutcome::Unchanged);
                        attempts += 1;
                        if !is_same && etag.is_some() && backoff(attempts) {
                            continue;
                        }
                        return Err(EditError::manifest(problem).into());
                    }
                }
            }
            None => new,
        };
        // That of the generation which ends now may be missing.
        let environment = &request.environment;
        let incomplete = body.and_then(|body| history.record(store, &manifest, body, environment));
        let when = match &found {
            Some(object) => WriteCondition::Matches(&object.etag),
            None => WriteCondition::Absent,
        };
        match store.put(key, &new, when) {
            Ok(PutOutcome::Written(_)) => {
                let unrecorded = record_history(store, &manifest, &new, environment).or(incomplete);
                edited.warnings.extend(unrecorded);
                return Ok(done(true, edited));
            }
            Ok(PutOutcome::Conflict) => {
                attempts += 1;
                if !backoff(attempts) {
                    return Err(PublishError::Busy { manifest, attempts });
                }
            }
            Err(error @ StoreError::Unreachable { .. }) => {
                return Err(PublishError::Unconfirmed(error));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod canary_tests;
#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod tests;
