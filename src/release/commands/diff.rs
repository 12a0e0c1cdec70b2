//! Differences between two commits of an app, as its mirror has them.

use std::path::{Path, PathBuf};

use git2::{Delta, DiffOptions, Oid, Repository};
use serde::Serialize;

use crate::desired::Sha;
use crate::ports::Host;
use crate::release::app::spec::ReleaseSpec;
use crate::release::deployment::deployment_of_app;
use crate::release::source::{fetch, mirror};
use crate::resource::Failure;

/// The folders of an app's migrations.
const MIGRATIONS: &[&str] = &["db/migrate"];

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ChangedFile {
    pub path: PathBuf,
    #[serde(rename = "how")]
    pub change: ChangeType,
}

/// The change from the old commit to the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ChangeType {
    /// It is only in the old commit.
    Gone,
    /// It is only in the new commit.
    New,
    Changed,
}

/// The migrations that differ between two commits. A commit that the mirror lacks (of a release that another
/// tool deployed) cannot be compared and is an error.
pub(crate) fn diff_migrations(
    spec: &ReleaseSpec,
    host: &Host,
    from: &Sha,
    to: &Sha,
) -> Result<Vec<ChangedFile>, Failure> {
    let deployment = deployment_of_app(spec, host)?;
    fetch::configure_libgit2()?;
    let mirror = mirror::open(&deployment)
        .ok_or_else(|| Failure::new(format!("there is no mirror of {} on this host", spec.repo)))?;
    let selection = spec.selection();
    let paths = MIGRATIONS.iter().map(Path::new);
    let paths: Vec<PathBuf> = paths
        .map(|path| selection.path_in_repository(path))
        .collect();
    diff_paths(&mirror, from, to, &paths).map_err(|error| {
        Failure::new(format!(
            "cannot compare the commits in the mirror: {}",
            error.message()
        ))
    })
}

fn diff_paths(
    mirror: &Repository,
    from: &Sha,
    to: &Sha,
    paths: &[PathBuf],
) -> Result<Vec<ChangedFile>, git2::Error> {
    let tree = |sha: &Sha| {
        let id = Oid::from_str(sha.as_str())?;
        mirror.find_commit(id)?.tree()
    };
    let mut options = DiffOptions::new();
    options.disable_pathspec_match(true);
    for path in paths {
        options.pathspec(path);
    }
    let diff =
        mirror.diff_tree_to_tree(Some(&tree(from)?), Some(&tree(to)?), Some(&mut options))?;
    let differences = diff.deltas().filter_map(|delta| {
        let change = match delta.status() {
            Delta::Added => ChangeType::New,
            Delta::Deleted => ChangeType::Gone,
            _ => ChangeType::Changed,
        };
        let path = delta.old_file().path().or(delta.new_file().path())?;
        Some(ChangedFile {
            path: path.to_owned(),
            change,
        })
    });
    Ok(differences.collect())
}
