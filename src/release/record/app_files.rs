//! Folders with one file for each app that is in some state, which the file itself is the flag of.

use std::path::{Path, PathBuf};

use crate::ports::root::{Root, RootError};

const SUFFIX: &str = ".json";

/// The file of an app in such a folder.
pub(super) fn app_file(folder: &Path, app: &str) -> PathBuf {
    folder.join(format!("{app}{SUFFIX}"))
}

/// The names of all apps that have a file there, in order; none if there is no folder.
pub(super) fn list_apps(root: &Root, folder: &Path) -> Result<Vec<String>, RootError> {
    let names = root.list(folder)?.unwrap_or_default();
    let apps = names.iter().filter_map(|name| {
        let app = name.to_str()?.strip_suffix(SUFFIX)?;
        Some(app.to_owned())
    });
    let mut apps: Vec<String> = apps.collect();
    apps.sort();
    Ok(apps)
}
