//! The environment of a release's commands.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::ports::exec::Identity;
use crate::release::deployment::Deployment;
use crate::resource::Failure;

/// The environment of a release's command, without the default search path. Fails if a secret of it has no value.
pub(crate) fn environment(
    deployment: &Deployment<'_>,
    folder: &Path,
    stage: &str,
    env: &BTreeMap<String, String>,
    identity: Option<&Identity>,
) -> Result<BTreeMap<OsString, OsString>, Failure> {
    deployment.check_secrets()?;
    let root = &deployment.host.root;
    let (user, home) = match identity {
        Some(identity) => (identity.name.as_str(), root.machine_path(&identity.home)),
        None => ("root", root.machine_path("/root".as_ref())),
    };
    let previous = deployment.previous.as_ref().map_or("", |sha| sha.as_str());
    let own: [(&str, OsString); 11] = [
        ("HOME", home.into()),
        ("USER", user.into()),
        ("LANG", "C.UTF-8".into()),
        ("APP", deployment.spec.app.as_str().into()),
        ("ENVIRONMENT", deployment.spec.environment.as_str().into()),
        ("REVISION", deployment.sha.as_str().into()),
        ("PREVIOUS_REVISION", previous.into()),
        ("RELEASE_PATH", root.machine_path(folder).into()),
        (
            "CURRENT_PATH",
            root.machine_path(&deployment.layout.current()).into(),
        ),
        (
            "SHARED_PATH",
            root.machine_path(&deployment.layout.shared()).into(),
        ),
        ("STAGE", stage.into()),
    ];
    let configured = deployment
        .spec
        .env
        .iter()
        .chain(&deployment.spec.secrets)
        .chain(env);
    let configured = configured.map(|(key, value)| (key.into(), value.into()));
    let mut all: BTreeMap<OsString, OsString> = own
        .into_iter()
        .map(|(key, value)| (key.into(), value))
        .chain(configured)
        .collect();
    if identity.is_none()
        && let Some(path) = all.remove(OsStr::new("PATH"))
    {
        let path = without_app_folders(deployment, path);
        all.extend((!path.is_empty()).then(|| ("PATH".into(), path)));
    }
    Ok(all)
}

/// Removes from `PATH` the folders to which the app's user can add programs: root must run none of them.
fn without_app_folders(deployment: &Deployment<'_>, path: OsString) -> OsString {
    let (root, accounts) = (&deployment.host.root, &deployment.host.accounts);
    let user = deployment
        .spec
        .user
        .as_deref()
        .filter(|user| *user != "root");
    let Some(user) = user else {
        return path;
    };
    let home = accounts.identity(root, user).ok().flatten();
    let home = home.map(|user| root.machine_path(&user.home));
    let own = [home, Some(root.machine_path(deployment.layout.deploy_to()))];
    let others = std::env::split_paths(&path).filter(|folder| {
        // A relative folder is one of the release.
        folder.is_absolute() && !own.iter().flatten().any(|own| folder.starts_with(own))
    });
    std::env::join_paths(others).unwrap_or_default()
}
