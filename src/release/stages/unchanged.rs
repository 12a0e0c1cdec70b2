//! Recognizes a commit that changes nothing of what is checked out: the active release stays for it.
//!
//! Only for an app in a `subdir`: the commits of a monorepo mostly change other apps. An empty commit of an app that has
//! its repository for itself is a wish for a new release.

use super::description::BuildDescription;
use super::skip::inputs::{find_tree, is_selection_equal};
use crate::desired::{ResumePolicy, Sha};
use crate::ports::Host;
use crate::release::app::spec::ReleaseSpec;
use crate::release::record::entry::ReleaseEntry;
use crate::release::record::{self, ReleaseRecord};
use crate::release::source::mirror;
use crate::resource::Failure;

/// What becomes of the active release when a sha is deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ActiveReleaseForecast {
    /// It stays, because the sha changes nothing in it.
    Stays(String),
    /// It stays if the sha changes nothing in it: the mirror does not have the commit yet.
    Unknown,
    IsReplaced,
}

/// Whether the active release stays if a sha is deployed. Contacts no server.
pub(crate) fn forecast(
    spec: &ReleaseSpec,
    host: &Host,
    record: &ReleaseRecord,
    sha: &Sha,
) -> Result<ActiveReleaseForecast, Failure> {
    let Some(entry) = find_comparable(spec, host, record)? else {
        return Ok(ActiveReleaseForecast::IsReplaced);
    };
    let mirror = mirror::open_existing(spec, host);
    let new = mirror.as_ref().and_then(|mirror| find_tree(mirror, sha));
    let Some((mirror, new)) = mirror.as_ref().zip(new) else {
        return Ok(ActiveReleaseForecast::Unknown);
    };
    // The commit of the active release may have left the mirror with its branch.
    let is_equal = find_tree(mirror, &entry.sha)
        .is_some_and(|old| is_selection_equal(&old, &new, &spec.selection()));
    Ok(match is_equal {
        true => ActiveReleaseForecast::Stays(entry.name.clone()),
        false => ActiveReleaseForecast::IsReplaced,
    })
}

/// The active release, if it is complete and built as described now.
fn find_comparable<'r>(
    spec: &ReleaseSpec,
    host: &Host,
    record: &'r ReleaseRecord,
) -> Result<Option<&'r ReleaseEntry>, Failure> {
    if spec.selection().is_everything() || spec.resume_policy == ResumePolicy::FromScratch {
        return Ok(None);
    }
    let active = record::current(host, &spec.layout())?;
    let entry = active.and_then(|name| record.find(&name));
    Ok(entry.filter(|entry| {
        entry.state.is_complete()
            && entry.private_until.is_none()
            && entry.is_linked()
            && BuildDescription::of(spec).first_difference(entry).is_none()
    }))
}
