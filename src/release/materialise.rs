//! The stage that lays out a commit's files, in a folder that only root can enter.
//!
//! Files are exactly as git stores them: no line-end conversion, no filter, nothing of this host's
//! git configuration.

use std::path::Path;

use git2::build::CheckoutBuilder;
use git2::{ErrorClass, ErrorCode, ObjectType, Repository, TreeWalkMode, TreeWalkResult};

use super::Deployment;
use crate::ports::root::Attrs;
use crate::resource::Failure;

/// Why a commit could not be laid out.
pub(super) enum Trouble {
    /// The mirror lacks an object, or has a broken one: fetching it anew may help.
    Mirror(String),
    Other(Failure),
}

impl<E: Into<Failure>> From<E> for Trouble {
    fn from(error: E) -> Trouble {
        Trouble::Other(error.into())
    }
}

/// Lays out the wanted commit in the new folder `tree`.
pub(super) fn materialise(
    d: &Deployment<'_>,
    mirror: &Repository,
    tree: &Path,
) -> Result<(), Trouble> {
    let root = &d.host.root;
    root.make_dir(tree, &Attrs::mode(0o700))?;
    check_out(d, mirror, &root.outside(tree)).map_err(|error| explain(d, &error))?;
    Ok(())
}

/// The wanted commit, with its files' owner set and its name on it, is what the app gets.
pub(super) fn hand_over(d: &Deployment<'_>, tree: &Path) -> Result<(), Failure> {
    let root = &d.host.root;
    let revision = tree.join("REVISION");
    root.remove_tree(&revision)?;
    let line = format!("{}\n", d.sha);
    root.replace(&revision, line.as_bytes(), &Attrs::mode(0o644))?;
    Ok(root.own_tree(tree, d.owner.uid, d.owner.gid)?)
}

fn check_out(d: &Deployment<'_>, mirror: &Repository, to: &Path) -> Result<(), git2::Error> {
    let id = git2::Oid::from_str(d.sha.as_str())?;
    let tree = mirror.find_commit(id)?.tree()?;
    let mut submodules = Vec::new();
    tree.walk(TreeWalkMode::PreOrder, |folder, entry| {
        if entry.kind() == Some(ObjectType::Commit) {
            submodules.push(format!("{folder}{}", entry.name().unwrap_or("?")));
        }
        TreeWalkResult::Ok
    })?;
    if !submodules.is_empty() {
        tracing::warn!(
            "{}: submodules are not fetched, their folders stay empty: {}",
            d.spec.app,
            submodules.join(", ")
        );
    }
    let mut how = CheckoutBuilder::new();
    how.target_dir(to)
        .force()
        .recreate_missing(true)
        .update_index(false)
        .refresh(false)
        .disable_filters(true)
        .dir_perm(0o755);
    mirror.checkout_tree(tree.as_object(), Some(&mut how))
}

fn explain(d: &Deployment<'_>, error: &git2::Error) -> Trouble {
    let message = format!("cannot lay out {}: {}", d.sha, error.message());
    let of_mirror = matches!(
        error.class(),
        ErrorClass::Odb | ErrorClass::Object | ErrorClass::Zlib | ErrorClass::Indexer
    );
    if of_mirror || error.code() == ErrorCode::NotFound {
        return Trouble::Mirror(message);
    }
    Trouble::Other(Failure::new(message).hint(
        "if it is about a path, the repository holds one that is not safe to write; if it is about space, free some: nothing was activated",
    ))
}
