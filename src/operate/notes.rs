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
    let entries = names.filter_map(|app| Some((app, found.own_entry(app)?)));
    let mut notes = Vec::new();
    for (app, entry) in entries {
        // Not as an app without notes.
        let entry = entry.map_err(|problem| CommandError::input(problem.clone()))?;
        if !entry.notes.is_empty() {
            notes.push(AppNotes {
                app: app.to_owned(),
                notes: entry.notes.clone(),
            });
        }
    }
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::store::{MemoryStore, WriteCondition};

    #[test]
    fn invalid_entry_is_not_taken_for_one_without_notes() {
        let store = MemoryStore::new();
        let text = "production:\n  shop: {sha: 4f2c9d0e1b3a5c7d9e0f1a2b3c4d5e6f70819203, notes: [{text: a, number: 2}, {text: b, number: 2}]}\n";
        let when = WriteCondition::Always;
        store.put("m.yml", text.as_bytes(), when).unwrap();
        for app in [None, Some("shop")] {
            let refused = open_notes(&store, "m.yml", "production", app).unwrap_err();
            let summary = refused.summary();
            assert!(
                summary.contains("m.yml:2") && summary.contains("two notes have the number 2"),
                "{summary}"
            );
        }
    }
}
