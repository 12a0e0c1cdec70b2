//! Finds out whether a commit is on an allowed ref.

use git2::{Oid, Repository};

use super::commit_graph::{self, GitObjectError, WalkError};
use crate::desired::AllowedRefs;

/// Whether a commit is on one of the allowed refs in the mirror. Skips an unreadable ref, and adds the reason
/// to `skipped`. Ends early once `may_continue` returns false.
pub(crate) fn is_on_allowed_ref(
    refs: &AllowedRefs,
    mirror: &Repository,
    commit: Oid,
    may_continue: &dyn Fn() -> bool,
    skipped: &mut Vec<String>,
) -> Result<bool, WalkError> {
    let odb = mirror.odb()?;
    let mut tips = Vec::new();
    for reference in mirror.references()? {
        let reference = reference?;
        let (Ok(name), Some(id)) = (reference.name(), reference.target()) else {
            continue;
        };
        if !refs.allows(name) {
            continue;
        }
        match commit_graph::peel(mirror, &odb, id) {
            // A tag may name any type of object.
            Ok(tip) => tips.extend(tip),
            Err(GitObjectError::Malformed(why)) => {
                commit_graph::push_skipped(skipped, format!("`{name}`: {why}"))
            }
            Err(GitObjectError::Git(error)) => return Err(WalkError::Git(error)),
        }
    }
    commit_graph::is_reachable(&odb, &tips, commit, may_continue, skipped)
}
