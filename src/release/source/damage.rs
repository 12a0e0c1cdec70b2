//! Finds damage of a mirror: a power cut or a failing disk may truncate a pack, and libgit2 then calls its objects
//! missing. The refs are whole, so a fetch brings nothing, and the wanted commit seems to be on no branch.

use std::collections::BTreeSet;

use git2::{Error, Oid, Repository};

use super::commit_graph::{self, GitObjectError};

/// Maximum number of commits whose content is read.
const MAX_COMMITS: usize = 1000;

/// The first error of finding what the refs name, and of reading the newest commits behind them.
pub(super) fn find(mirror: &Repository) -> Option<Error> {
    match read_history(mirror) {
        Ok(()) => None,
        Err(GitObjectError::Git(error)) => Some(error),
        // A fetch keeps malformed objects out.
        Err(GitObjectError::Malformed(why)) => Some(Error::from_str(&why)),
    }
}

fn read_history(mirror: &Repository) -> Result<(), GitObjectError> {
    let odb = mirror.odb()?;
    let mut todo: Vec<Oid> = Vec::new();
    for reference in mirror.references()? {
        if let Some(id) = reference?.target() {
            todo.extend(commit_graph::peel(mirror, &odb, id)?);
        }
    }
    let mut read = BTreeSet::new();
    while let Some(id) = todo.pop() {
        if read.len() >= MAX_COMMITS {
            break;
        }
        if read.insert(id) {
            todo.extend(commit_graph::read_commit(&odb, id)?.parents);
        }
    }
    Ok(())
}
