//! What the release of a sha is built on: a complete one, one that was begun, or nothing.

use super::attempt;
use super::description::{BuildDescription, attempt_fingerprint};
use crate::desired::{ResumePolicy, Sha};
use crate::ports::Host;
use crate::release::app::spec::ReleaseSpec;
use crate::release::deployment::Deployment;
use crate::release::record::disk::read_revision;
use crate::release::record::entry::{ReleaseEntry, ReleaseStatus};
use crate::release::record::overrides::Overrides;
use crate::release::record::{self, ReleaseRecord};
use crate::resource::Failure;

/// What a complete release of a sha is made from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BuildBase {
    /// This release, which is complete.
    Complete(String),
    /// This release, whose build was interrupted or failed.
    Unfinished(String),
    Nothing,
}

impl BuildBase {
    fn release(&self) -> Option<&str> {
        match self {
            BuildBase::Complete(name) | BuildBase::Unfinished(name) => Some(name),
            BuildBase::Nothing => None,
        }
    }
}

/// Chooses what to build on. Fails while a release of this sha has to wait after its last failure.
pub(crate) fn choose_base(
    deployment: &Deployment<'_>,
    record: &ReleaseRecord,
) -> Result<BuildBase, Failure> {
    let (spec, host, sha) = (deployment.spec, deployment.host, &deployment.sha);
    let policy = spec.resume_policy;
    if policy == ResumePolicy::FromScratch {
        return Ok(BuildBase::Nothing);
    }
    let description = BuildDescription::of(spec);
    let complete =
        find_pinned(deployment, record)?.or_else(|| find_complete(spec, host, record, sha));
    let resumable = record.find_resumable(sha);
    let resumable = resumable.filter(|entry| description.first_difference(entry).is_none());
    let base = match (complete, resumable) {
        (Some(name), _) => BuildBase::Complete(name),
        (None, Some(entry)) => BuildBase::Unfinished(entry.name.clone()),
        (None, None) => BuildBase::Nothing,
    };
    let entry = base.release().and_then(|name| record.find(name));
    let attempted = attempt_fingerprint(spec);
    let no_retry =
        entry.and_then(|entry| attempt::no_retry_reason(entry, &attempted, host.clock.now()));
    match no_retry.filter(|_| policy == ResumePolicy::Backoff) {
        Some(failure) => Err(failure),
        None => Ok(base),
    }
}

/// The complete release of a sha that may be activated: one that is built as described now, or a proven one,
/// whatever describes the next build: a rollback must not wait for one.
pub(crate) fn find_complete(
    spec: &ReleaseSpec,
    host: &Host,
    record: &ReleaseRecord,
    sha: &Sha,
) -> Option<String> {
    let description = BuildDescription::of(spec);
    let is_usable = |entry: &ReleaseEntry| {
        entry.state == ReleaseStatus::Good || description.first_difference(entry).is_none()
    };
    record.find_complete(sha, host, &spec.layout(), is_usable)
}

/// The pinned release, if it is complete and of this sha: of two releases of one sha an operator may mean
/// either.
fn find_pinned(
    deployment: &Deployment<'_>,
    record: &ReleaseRecord,
) -> Result<Option<String>, Failure> {
    let overrides = Overrides::load(deployment.host, &deployment.layout)?;
    let pin = overrides.effective_pin(deployment.spec.wanted.as_ref());
    let entry = pin.and_then(|pin| record.find(&pin.release));
    let complete = entry.filter(|entry| {
        entry.state.is_complete()
            && entry.sha == deployment.sha
            && read_revision(deployment.host, &deployment.layout, &entry.name).as_ref()
                == Some(&deployment.sha)
    });
    Ok(complete.map(|entry| entry.name.clone()))
}

/// Whether a release is an operator's rollback target that is proven: it gets back with the files that it ran with.
pub(crate) fn is_rollback_target(
    deployment: &Deployment<'_>,
    record: &ReleaseRecord,
    name: &str,
) -> Result<bool, Failure> {
    let pinned = find_pinned(deployment, record)?;
    let entry = record
        .find(name)
        .filter(|_| pinned.as_deref() == Some(name));
    Ok(entry.is_some_and(|entry| entry.state == ReleaseStatus::Good))
}

/// Discards what was built of this sha and is not proven: a new build takes its place. Returns the names, for
/// removal. From here on no pass goes on with one of them, even if the new build fails at once.
pub(crate) fn discard_attempts(
    deployment: &Deployment<'_>,
    record: &mut ReleaseRecord,
) -> Result<Vec<String>, Failure> {
    let active = record::current(deployment.host, &deployment.layout)?;
    let overrides = Overrides::load(deployment.host, &deployment.layout)?;
    let pinned = overrides.pin.map(|pin| pin.release);
    let from = record.trial().and_then(|trial| trial.from.clone());
    let in_use = [active, pinned, from];
    let is_attempt = |entry: &&ReleaseEntry| {
        entry.sha == deployment.sha
            && entry.private_until.is_none()
            && (entry.is_resumable() || entry.state == ReleaseStatus::Built)
            && !in_use.contains(&Some(entry.name.clone()))
    };
    let names = record.entries().iter().filter(is_attempt);
    let names: Vec<String> = names.map(|entry| entry.name.clone()).collect();
    discard(deployment, record, &names)?;
    Ok(names)
}

/// Marks releases as no longer to be resumed or activated.
pub(crate) fn discard(
    deployment: &Deployment<'_>,
    record: &mut ReleaseRecord,
    names: &[String],
) -> Result<(), Failure> {
    if names.is_empty() {
        return Ok(());
    }
    let description = BuildDescription::of(deployment.spec);
    for name in names {
        let Some(entry) = record.find_mut(name) else {
            continue;
        };
        let why = match description.first_difference(entry) {
            Some(changed) => format!("{changed} is described differently now"),
            None => "a fresh build was asked for".to_owned(),
        };
        tracing::info!("{}: {name} is built anew: {why}", deployment.spec.app);
        entry.discard(&why);
    }
    record.save(deployment.host, &deployment.layout)
}
