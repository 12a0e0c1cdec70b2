//! Creates the folders of an app, and secures those that another tool made.

use crate::ports::root::{Attrs, FileKind};
use crate::release::deployment::Deployment;
use crate::resource::Failure;

/// Creates the folders of the layout. The app's user must have no write access to `releases`, or it could
/// swap what root checks out there.
pub(crate) fn prepare_folders(deployment: &Deployment<'_>) -> Result<(), Failure> {
    let root = &deployment.host.root;
    let (deploy_to, releases) = (deployment.layout.deploy_to(), deployment.layout.releases());
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
        return Err(Failure::new(format!(
            "users other than root could replace the builds in {}: they can write to it or to a folder above it, or its path contains a link",
            deploy_to.display()
        ))
        .hint(format!(
            "give it to root (`chown root:root {0}; chmod 755 {0}`; the app writes to shared/), and write the path without links",
            deploy_to.display()
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
