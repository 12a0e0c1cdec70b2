//! The tasks for people that the manifest has.

use serde::Serialize;

use super::CommandError;
use super::manifest::{find_environment, read_manifest};
use crate::desired::DeployNote;
use crate::ports::store::Store;

/// The open notes of one app.
#[derive(Debug, Serialize)]
pub(crate) struct AppNotes {
    pub app: String,
    pub notes: Vec<DeployNote>,
}

/// The open notes of the apps of an environment, or of one of them; apps without any are left out.
pub(crate) fn open_notes(
    store: &dyn Store,
    manifest_key: &str,
    environment: &str,
    only: Option<&str>,
) -> Result<Vec<AppNotes>, CommandError> {
    let manifest = read_manifest(store, manifest_key, environment, None)?;
    let found = find_environment(&manifest, environment, only)?;
    let names = found
        .app_names()
        .filter(|app| only.is_none_or(|only| only == *app));
    let notes = names.filter_map(|app| {
        let entry = found.own_entry(app)?.ok()?;
        (!entry.notes.is_empty()).then(|| AppNotes {
            app: app.to_owned(),
            notes: entry.notes.clone(),
        })
    });
    Ok(notes.collect())
}
