//! The link stage: links shared folders and files into a release.
//!
//! The tree comes from a repository, so any part of it may be a symbolic link to anywhere. Here it is still
//! accessible only to root, and trueup follows no link on the path to a new one.

use std::path::{Path, PathBuf};

use crate::ports::root::{Attrs, FileKind};
use crate::release::app::layout::{SHARED_ASSETS, relative_link};
use crate::release::deployment::Deployment;
use crate::resource::Failure;

/// Creates the shared folders, and links them and the shared files into the tree.
pub(crate) fn link(deployment: &Deployment<'_>, tree: &Path) -> Result<(), Failure> {
    ensure_shared_paths(deployment)?;
    for (path, target) in deployment.spec.links() {
        make_parents(deployment, tree, path)?;
        let link = tree.join(path);
        // Replaces what the repository has there (a placeholder, usually).
        deployment.host.root.remove_obstacle(&link)?;
        deployment.host.root.replace_symlink(
            &link,
            &relative_link(path, &target),
            &Attrs::default(),
        )?;
    }
    Ok(())
}

/// Creates the shared folders; fails if a shared file, which trueup cannot create, is missing.
fn ensure_shared_paths(deployment: &Deployment<'_>) -> Result<(), Failure> {
    let root = &deployment.host.root;
    let shared = deployment.layout.shared();
    for dir in &deployment.spec.linked_dirs {
        make_shared_folder(deployment, dir)?;
    }
    if deployment.spec.assets.is_some() {
        make_shared_folder(deployment, Path::new(SHARED_ASSETS))?;
    }
    for file in &deployment.spec.linked_files {
        if let Some(folder) = file.parent().filter(|folder| *folder != Path::new("")) {
            make_shared_folder(deployment, folder)?;
        }
        let path = shared.join(file);
        match root.meta(&path)?.map(|meta| meta.kind) {
            Some(FileKind::File | FileKind::Symlink) => {}
            None => {
                return Err(Failure::not_ready(format!(
                    "the linked file {} does not exist",
                    path.display()
                ))
                .hint("create it, or describe it in a `file` or `template` before this release"));
            }
            Some(other) => {
                return Err(Failure::new(format!(
                    "the linked file {} is {}",
                    path.display(),
                    other.describe()
                )));
            }
        }
    }
    Ok(())
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
