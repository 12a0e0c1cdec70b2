//! Compares paths of two commits by git's object ids.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use git2::{ErrorCode, Oid, Repository, Tree};

use crate::desired::Sha;
use crate::release::app::inputs::excluded_path;
use crate::release::app::selection::Selection;

/// The inputs of a step.
pub(super) struct InputPaths {
    /// Files and folders, from the top of the repository; the empty path is everything.
    paths: Vec<PathBuf>,
    /// Paths below them that are ignored.
    excluded: Vec<PathBuf>,
}

/// The id and mode of a path in a commit; `None` if it does not exist.
type PathState = Option<(Oid, i32)>;

impl InputPaths {
    pub(super) fn parse(when_changed: &[PathBuf], selection: &Selection) -> InputPaths {
        let paths = when_changed.iter();
        let paths = paths.filter(|path| excluded_path(path).is_none());
        let excluded = when_changed.iter().filter_map(|path| excluded_path(path));
        InputPaths {
            paths: paths
                .map(|path| selection.path_in_repository(path))
                .collect(),
            excluded: excluded
                .map(|path| selection.path_in_repository(path))
                .collect(),
        }
    }

    /// Whether all paths are equal in both commits and at least one exists: if none exists, the step cannot
    /// depend on them. Paths that the mirror cannot resolve count as different.
    pub(super) fn are_equal(&self, mirror: &Repository, old: &Tree<'_>, new: &Tree<'_>) -> bool {
        let is_all = |path: &Path| path == Path::new("");
        let equal = self.paths.iter().all(|path| {
            let equal = match is_all(path) {
                true => self.trees_are_equal(mirror, Path::new(""), old, new),
                false => path_state(old, path)
                    .zip(path_state(new, path))
                    .and_then(|(old, new)| self.is_equal(mirror, path, old, new)),
            };
            equal == Some(true)
        });
        let is_there =
            |path: &PathBuf| is_all(path) || matches!(path_state(new, path), Some(Some(_)));
        equal && self.paths.iter().any(is_there)
    }

    fn is_equal(
        &self,
        mirror: &Repository,
        path: &Path,
        old: PathState,
        new: PathState,
    ) -> Option<bool> {
        let counts = !self.excluded.iter().any(|but| path.starts_with(but));
        if old == new || !counts {
            return Some(true);
        }
        let inside = self.excluded.iter().any(|but| but.starts_with(path));
        match (old, new) {
            (Some((old, TREE_MODE)), Some((new, TREE_MODE))) if inside => {
                let (old, new) = (mirror.find_tree(old).ok()?, mirror.find_tree(new).ok()?);
                self.trees_are_equal(mirror, path, &old, &new)
            }
            _ => Some(false),
        }
    }

    fn trees_are_equal(
        &self,
        mirror: &Repository,
        path: &Path,
        old: &Tree<'_>,
        new: &Tree<'_>,
    ) -> Option<bool> {
        for entry in old.iter().chain(new.iter()) {
            let name = Path::new(OsStr::from_bytes(entry.name_bytes()));
            let (old, new) = (path_state(old, name)?, path_state(new, name)?);
            if !self.is_equal(mirror, &path.join(name), old, new)? {
                return Some(false);
            }
        }
        Some(true)
    }
}

/// Git's mode of a folder.
const TREE_MODE: i32 = 0o040_000;

/// `None`: the mirror cannot resolve the path.
fn path_state(tree: &Tree<'_>, path: &Path) -> Option<PathState> {
    match tree.get_path(path) {
        Ok(entry) => Some(Some((entry.id(), entry.filemode()))),
        Err(error) if error.code() == ErrorCode::NotFound => Some(None),
        Err(_) => None,
    }
}

/// Whether a path is equal in both commits.
pub(super) fn is_path_equal(old: &Tree<'_>, new: &Tree<'_>, path: &Path) -> bool {
    path_state(old, path)
        .zip(path_state(new, path))
        .is_some_and(|(old, new)| old == new)
}

/// Whether what is checked out of two commits is the same, but for what git writes into files from the commit itself.
pub(in crate::release) fn is_selection_equal(
    old: &Tree<'_>,
    new: &Tree<'_>,
    selection: &Selection,
) -> bool {
    let is_equal = |path: &Path| is_path_equal(old, new, path);
    !selection.is_everything()
        && selection.paths().all(is_equal)
        && selection.attributes_above().all(|path| is_equal(&path))
}

/// The tree of a commit, if the mirror has it.
pub(in crate::release) fn find_tree<'r>(mirror: &'r Repository, sha: &Sha) -> Option<Tree<'r>> {
    let id = Oid::from_str(sha.as_str()).ok()?;
    mirror.find_commit(id).ok()?.tree().ok()
}
