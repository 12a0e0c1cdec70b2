//! Creates the folders of an app, and secures those that another tool made.

use std::path::{Path, PathBuf};

use crate::ports::root::{Attrs, FileKind, Root};
use crate::release::app::layout::Layout;
use crate::release::deployment::Deployment;
use crate::resource::Failure;

/// Refuses a file on the path of the releases, and a link, as an operator makes one who moves an app to another disk: whoever
/// changes the link swaps all releases, and the kernel reports processes by the path behind it.
pub(crate) fn check_path(root: &Root, layout: &Layout) -> Result<(), Failure> {
    let releases = layout.releases();
    let mut paths: Vec<&Path> = releases.ancestors().collect();
    paths.reverse();
    for path in paths {
        let Some(meta) = root.meta(path)? else { break };
        match meta.kind {
            FileKind::Directory => continue,
            FileKind::Symlink => {}
            other => {
                return Err(Failure::new(format!(
                    "{} is {} and not a folder",
                    path.display(),
                    other.describe()
                ))
                .hint("move it away, or set another `deploy_to`"));
            }
        }
        let target = root.read_link(path)?.unwrap_or_default();
        let failure = Failure::new(format!(
            "{} is a symbolic link to {}: trueup follows no link on the path to the releases of `{}`",
            path.display(),
            target.display(),
            layout.app()
        ));
        return Err(failure.hint(remedy_of_link(root, layout, path, &target)));
    }
    Ok(())
}

/// What to do about a link on the path of the releases.
fn remedy_of_link(root: &Root, layout: &Layout, link: &Path, target: &Path) -> String {
    let parent = link.parent().unwrap_or(Path::new("/"));
    let (behind, is_safe) = match root.canonicalize(link) {
        Ok(Some(real)) => (real, true),
        _ => (parent.join(target), false),
    };
    let mount = format!(
        "mount the folder instead: `rm {0} && mkdir {0} && mount --bind {1} {0}`, with a line in /etc/fstab",
        link.display(),
        behind.display()
    );
    let remedy = match layout.deploy_to().strip_prefix(link) {
        Ok(rest) if is_safe => format!(
            "set `deploy_to: {}`, where it leads, or {mount}",
            behind
                .join(rest)
                .components()
                .collect::<PathBuf>()
                .display()
        ),
        _ => mount,
    };
    match is_safe {
        true => remedy,
        // A user other than root may have made it.
        false => format!(
            "find out who created it (`ls -ld {}`); if it is intended, {remedy}",
            link.display()
        ),
    }
}

/// Creates the folders of the layout. The app's user must have no write access to `releases`, or it could
/// swap what root checks out there.
pub(crate) fn prepare_folders(deployment: &Deployment<'_>) -> Result<(), Failure> {
    let root = &deployment.host.root;
    let (deploy_to, releases) = (deployment.layout.deploy_to(), deployment.layout.releases());
    check_path(root, &deployment.layout)?;
    root.create_dir_all(deploy_to, &Attrs::mode(0o755))?;
    // Before the rest, which inherits them.
    deployment.host.label_new_paths();
    let root_owned = Attrs {
        mode: Some(0o755),
        uid: root.is_privileged().then_some(0),
        gid: root.is_privileged().then_some(0),
    };
    if !root.is_in_trusted_folder(&releases)? && root.is_in_trusted_folder(deploy_to)? {
        // Another tool gave the folder to the app's user. Its contents stay untouched.
        tracing::info!(
            "{}: {} now belongs to root; the app writes to shared/",
            deployment.spec.app,
            deploy_to.display()
        );
        root.create_dir(deploy_to, &root_owned)?;
    }
    if !root.is_in_trusted_folder(&releases)? {
        let exposed = first_exposed(root, deploy_to)?;
        return Err(Failure::new(format!(
            "users other than root could replace the builds in {}: they can write to {}",
            deploy_to.display(),
            exposed.display()
        ))
        .hint(format!(
            "`chown root:root {0} && chmod 755 {0}` (the app writes to shared/), or set another `deploy_to`",
            exposed.display()
        )));
    }
    let inside = releases.join("any");
    if root.meta(&releases)?.is_none() || !root.is_in_trusted_folder(&inside)? {
        root.create_dir(&releases, &root_owned)?;
    }
    let shared = deployment.layout.shared();
    match root.meta(&shared)?.map(|meta| meta.kind) {
        None => Ok(root.create_dir(&shared, &deployment.owner.attrs(0o755))?),
        Some(FileKind::Directory | FileKind::Symlink) => Ok(()),
        Some(other) => Err(Failure::new(format!(
            "{} is {} and not a folder",
            shared.display(),
            other.describe()
        ))),
    }
}

/// The outermost folder on the path that users other than root can write to.
fn first_exposed(root: &Root, path: &Path) -> Result<PathBuf, Failure> {
    let mut folders: Vec<&Path> = path.ancestors().collect();
    folders.reverse();
    for folder in folders {
        if !root.is_in_trusted_folder(&folder.join("any"))? {
            return Ok(folder.to_owned());
        }
    }
    Ok(path.to_owned())
}
