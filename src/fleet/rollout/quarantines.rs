//! All quarantines of an environment.

use super::object::{MAX_OBJECT, RolloutError, parse};
use super::quarantine::Quarantine;
use crate::desired::Sha;
use crate::ports::store::{GetOutcome, Store, StoreError};
use crate::settings::is_name;

/// The quarantines of an environment.
#[derive(Debug, Default)]
pub(crate) struct QuarantineList {
    /// Those in force, by app and sha.
    pub in_force: Vec<(String, Sha, Quarantine)>,
    /// The objects that cannot be used, a line each. Hosts wait for these shas as well.
    pub damaged: Vec<String>,
}

/// The quarantines of one app, or of all.
pub(crate) fn list_quarantined(
    store: &dyn Store,
    environment: &str,
    app: Option<&str>,
) -> Result<QuarantineList, RolloutError> {
    let all = format!("quarantine/{environment}/");
    let prefix = app.map_or(all.clone(), |app| format!("{all}{app}/"));
    let mut list = QuarantineList::default();
    for object in store.list(&prefix)? {
        let name = object.key.strip_prefix(&all);
        let name = name.and_then(|name| name.strip_suffix(".json")?.split_once('/'));
        let name = name.and_then(|(app, sha)| Some((app, Sha::parse(sha).ok()?)));
        // Whoever may write in the store may have written other keys there.
        let Some((app, sha)) = name.filter(|(app, _)| is_name(app)) else {
            continue;
        };
        let parsed = match store.get(&object.key, None) {
            Ok(GetOutcome::Object(found)) => parse(&object.key, MAX_OBJECT, &found.body),
            Ok(GetOutcome::Missing | GetOutcome::Unchanged) => continue,
            Err(error @ StoreError::TooLarge { .. }) => Err(error.into()),
            Err(error) => return Err(error.into()),
        };
        let parsed: Result<Quarantine, RolloutError> = parsed;
        match parsed {
            Ok(quarantine) if quarantine.in_force => {
                list.in_force.push((app.to_owned(), sha, quarantine));
            }
            Ok(_) => {}
            // One that nobody can use must not hide the others.
            Err(error) => list.damaged.push(error.to_string()),
        }
    }
    Ok(list)
}
