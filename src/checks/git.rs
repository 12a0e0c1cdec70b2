//! Checks that an app's git server grants this host access.

use super::{Check, note_for_root};
use crate::ports::Host;
use crate::problem::Problem;
use crate::release::{self, ReleaseSpec};
use crate::role;
use crate::settings::Settings;

/// `known` are the lines of `known_hosts` that a pass installs before it fetches.
pub(crate) fn check_git(spec: &ReleaseSpec, host: &Host, known: &[String]) -> Check {
    let about = format!("git {}", spec.app);
    match release::count_remote_refs(spec, host, known) {
        Ok(0) => Check::note(
            about,
            Problem::new(format!(
                "{} grants access to this host and is empty",
                spec.repo
            ))
            .hint("push a commit to it"),
        ),
        Ok(refs) => Check::good(
            about,
            format!("{} grants access to this host (refs: {refs})", spec.repo),
        ),
        Err(failure) if host.root.is_ordinary_user() => note_for_root(
            about,
            format!(
                "this user has not the keys of a pass: {}",
                failure.summary()
            ),
        ),
        Err(failure) => Check::bad(about, failure.into()),
    }
}

/// The lines that the roles add to `known_hosts` before a pass fetches.
pub(crate) fn known_hosts(settings: &Settings) -> Vec<String> {
    let Ok(explained) = role::explain(settings, "known_hosts") else {
        return Vec::new();
    };
    let last = explained.layers.last();
    let lines = last.and_then(|layer| layer.value.as_array());
    let lines = lines.into_iter().flatten();
    lines
        .filter_map(|line| line.as_str().map(str::to_owned))
        .collect()
}
