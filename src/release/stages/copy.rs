//! Copies what a skipped step or compile would produce from another release.

use std::path::Path;

use crate::release::deployment::Deployment;
use crate::resource::Failure;

/// Copies a path from another release.
pub(crate) fn copy_from_release(
    deployment: &Deployment<'_>,
    name: &str,
    from: &str,
    path: &Path,
) -> Result<(), Failure> {
    let root = &deployment.host.root;
    let (old, new) = (deployment.app_folder(from), deployment.app_folder(name));
    let (old, new) = (old.path(), new.path());
    root.remove_tree(&new.join(path))?;
    let mut folder = new.to_owned();
    for part in path.parent().into_iter().flatten() {
        folder.push(part);
        if root.meta(&folder)?.is_none() {
            root.create_dir(&folder, &deployment.owner.attrs(0o755))?;
        }
    }
    let copied = root.copy_tree(&old.join(path), &new.join(path), &deployment.host.stop);
    deployment.check_stop()?;
    Ok(copied?)
}
