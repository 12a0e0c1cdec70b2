//! The link stage: links shared folders and files into a release.
//!
//! The tree comes from a repository, so any part of it may be a symbolic link to anywhere. Here it is still
//! accessible only to root, and trueup follows no link on the path to a new one.

use std::path::{Path, PathBuf};

use crate::ports::root::{Attrs, FileKind};
use crate::release::app::layout::{AppFolder, SHARED_ASSETS};
use crate::release::app::spec::ReleaseSpec;
use crate::release::deployment::Deployment;
use crate::resource::Failure;

/// A path that all releases share.
pub(crate) struct SharedPath<'a> {
    /// Relative to the app's folder in the release, and to `shared`.
    pub path: &'a Path,
    /// Whether it is a folder, or else a file.
    pub is_folder: bool,
}

impl SharedPath<'_> {
    /// The target of its link in a release.
    pub(crate) fn link_target(&self, app: &AppFolder) -> PathBuf {
        app.link_target(self.path, &Path::new("shared").join(self.path))
    }

    pub(crate) fn kind(&self) -> FileKind {
        match self.is_folder {
            true => FileKind::Directory,
            false => FileKind::File,
        }
    }

    /// Whether this may be in `shared`. A link, to a larger disk perhaps, is not followed here.
    pub(crate) fn accepts(&self, kind: FileKind) -> bool {
        kind == self.kind() || kind == FileKind::Symlink
    }
}

/// All paths that the releases of an app share, except for its assets.
pub(crate) fn shared_paths(spec: &ReleaseSpec) -> Vec<SharedPath<'_>> {
    let folders = spec.linked_dirs.iter().map(|path| (path, true));
    let files = spec.linked_files.iter().map(|path| (path, false));
    let all = folders.chain(files);
    all.map(|(path, is_folder)| SharedPath { path, is_folder })
        .collect()
}

/// Creates the shared folders, and links them and the shared files into the app's folder.
pub(crate) fn link(deployment: &Deployment<'_>, app: &AppFolder) -> Result<(), Failure> {
    if deployment.spec.assets.is_some() {
        make_shared_folder(deployment, Path::new(SHARED_ASSETS))?;
    }
    for shared in shared_paths(deployment.spec) {
        make_shared_path(deployment, &shared)?;
        make_parents(deployment, app.path(), shared.path)?;
        let link = app.path().join(shared.path);
        let root = &deployment.host.root;
        // Replaces what the repository has there (a placeholder, usually).
        root.remove_obstacle(&link)?;
        root.replace_symlink(&link, &shared.link_target(app), &Attrs::default())?;
    }
    Ok(())
}

/// Creates a shared folder; fails if a shared file, which trueup cannot create, is missing.
pub(crate) fn make_shared_path(
    deployment: &Deployment<'_>,
    shared: &SharedPath<'_>,
) -> Result<(), Failure> {
    if shared.is_folder {
        return make_shared_folder(deployment, shared.path);
    }
    if let Some(folder) = shared
        .path
        .parent()
        .filter(|folder| *folder != Path::new(""))
    {
        make_shared_folder(deployment, folder)?;
    }
    let path = deployment.layout.shared().join(shared.path);
    match deployment.host.root.meta(&path)?.map(|meta| meta.kind) {
        Some(kind) if shared.accepts(kind) => Ok(()),
        None => Err(Failure::not_ready(format!(
            "the linked file {} does not exist",
            path.display()
        ))
        .hint("create it, or describe it in a `file` or `template` before this release")),
        Some(other) => Err(Failure::new(format!(
            "the linked file {} is {}",
            path.display(),
            other.describe()
        ))),
    }
}

/// Creates a folder of `shared`, with its parents: all of them belong to the app's user.
fn make_shared_folder(deployment: &Deployment<'_>, path: &Path) -> Result<(), Failure> {
    let root = &deployment.host.root;
    let mut folder = deployment.layout.shared();
    for part in path {
        folder.push(part);
        match root.meta(&folder)?.map(|meta| meta.kind) {
            Some(FileKind::Directory) => {}
            // A shared folder may be a link to a larger disk. It is not followed here.
            Some(FileKind::Symlink) if folder == deployment.layout.shared().join(path) => {}
            None => root.create_dir(&folder, &deployment.owner.attrs(0o755))?,
            Some(other) => {
                return Err(Failure::new(format!(
                    "{} is {} and not a folder",
                    folder.display(),
                    other.describe()
                )));
            }
        }
    }
    Ok(())
}

/// Creates the folders in the tree on the path to a link. Accepts only real folders.
fn make_parents(deployment: &Deployment<'_>, tree: &Path, path: &Path) -> Result<(), Failure> {
    let root = &deployment.host.root;
    let mut parent = PathBuf::new();
    for part in path.parent().into_iter().flatten() {
        parent.push(part);
        let folder = tree.join(&parent);
        match root.meta(&folder)?.map(|meta| meta.kind) {
            Some(FileKind::Directory) => {}
            None => root.create_dir(&folder, &Attrs::mode(0o755))?,
            Some(other) => {
                return Err(Failure::new(format!(
                    "cannot link {}: {} is {} in the repository",
                    path.display(),
                    parent.display(),
                    other.describe()
                ))
                .hint(
                    "a link can only be created in real folders: change the repository or the path",
                ));
            }
        }
    }
    Ok(())
}
