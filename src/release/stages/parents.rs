//! Creates folders in a tree of the app's user, without following links.

use std::path::{Path, PathBuf};

use crate::ports::root::{FileKind, UserTree};
use crate::release::deployment::Deployment;
use crate::resource::Failure;

/// Creates the parent folders of a path below `top`. `false`: something else blocks the path.
pub(crate) fn make_parents(
    deployment: &Deployment<'_>,
    top: &UserTree,
    path: &Path,
) -> Result<bool, Failure> {
    let enters = |folder_path: &Path| match top.open_folder(folder_path) {
        Err(error) if error.is_out_of_bounds() => Ok(None),
        folder => folder,
    };
    let parent = path.parent().unwrap_or(Path::new(""));
    if enters(parent)?.is_some() {
        return Ok(true);
    }
    let mut folder_path = PathBuf::new();
    for part in parent {
        let Some(folder) = enters(&folder_path)? else {
            return Ok(false);
        };
        match folder.find(part)?.map(|meta| meta.kind) {
            Some(FileKind::Directory) => {}
            Some(_) => return Ok(false),
            None => folder.create_folder(part, &deployment.owner.attrs(0o755))?,
        }
        folder_path.push(part);
    }
    Ok(enters(&folder_path)?.is_some())
}
