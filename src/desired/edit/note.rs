//! What a request writes about the notes of an app.

use super::hold::whole_second;
use super::request::{EditError, NoteChange, PublishRequest};
use crate::desired::{DeployNote, Manifest};
use crate::problem::Problem;

impl PublishRequest {
    pub(super) fn new_note(&self, number: u32, text: &str) -> DeployNote {
        DeployNote {
            number,
            text: text.to_owned(),
            by: self.by.clone(),
            at: Some(whole_second(self.at)),
        }
    }
}

/// Validates that the apps of all note edits have entries, and that the notes to tick off exist.
pub(super) fn check_notes(manifest: &Manifest, order: &PublishRequest) -> Result<(), EditError> {
    let environment = manifest.environments.get(&order.environment);
    for edit in &order.notes {
        let app = &edit.app;
        let entry = environment.and_then(|known| known.own_entry(app));
        let entry = entry.ok_or_else(|| no_entry(manifest, &order.environment, app))?;
        let entry = entry.map_err(|problem| EditError::manifest(problem.clone()))?;
        let NoteChange::Done(number) = edit.change else {
            continue;
        };
        let mut known = entry.notes.iter().map(|note| note.number);
        if !known.any(|known| known == number) {
            let problem = Problem::new(format!(
                "{}/{app} has no note {number}: it may be ticked off already",
                order.environment
            ));
            return Err(EditError::request(problem.hint(format!(
                "`trueup note {} {app}` lists them with their numbers",
                order.environment
            ))));
        }
    }
    Ok(())
}

/// That an app has no entry, and which apps have one.
pub(super) fn no_entry(manifest: &Manifest, environment: &str, app: &str) -> EditError {
    EditError::request(manifest.unknown_name(environment, Some(app)))
}
