//! The history of an environment: what each of its generations changed, from the copies in the store.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::desired::{
    Action, AppEntry, Environment, Manifest, ManifestChange, Sha, history_key, verified_manifest,
};
use crate::operate::CommandError;
use crate::operate::manifest::{find_environment, read_manifest};
use crate::pass::PassError;
use crate::ports::store::{GetOutcome, MAX_OBJECT_SIZE, Store};
use crate::settings::Signers;

/// One generation.
#[derive(Debug, Serialize)]
pub(crate) struct Generation {
    pub generation: u64,
    /// Who, when, why; `None`: the store has no copy of it.
    pub action: Option<Action>,
    pub by: Option<String>,
    pub at: Option<Timestamp>,
    pub reason: Option<String>,
    /// What it changed of each app.
    pub apps: Vec<AppMove>,
    /// The keys of the environment's settings that it changed.
    pub settings: Vec<String>,
    /// Whether a signer has signed it, and else why not; `None`: it was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<Result<(), String>>,
}

/// What a generation changed of one app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct AppMove {
    pub app: String,
    pub from: Option<Sha>,
    pub to: Option<Sha>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Sha>,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commits: Vec<String>,
}

/// The last `limit` generations of an environment, newest first; those that concern `app`, if one is named.
pub(crate) fn read_history(
    store: &dyn Store,
    manifest_key: &str,
    (environment, app): (&str, Option<&str>),
    limit: usize,
    signers: Option<&Signers>,
) -> Result<Vec<Generation>, CommandError> {
    /// Copies that are read at once.
    const BATCH: u64 = 32;
    let manifest = read_manifest(store, manifest_key)?;
    find_environment(&manifest, environment, app)?;
    let Some(newest) = manifest.generation_of(environment) else {
        return Ok(Vec::new());
    };
    let mut shown = Vec::new();
    let mut top = newest;
    let mut missing = 0;
    while top > 0 && shown.len() < limit && missing < BATCH {
        let bottom = top.saturating_sub(BATCH).max(1);
        let numbers: Vec<u64> = (bottom..=top).rev().collect();
        let copies = read_copies(store, environment, &numbers, signers)?;
        // The last one is there for what was before.
        let is_end = bottom == 1;
        let count = numbers.len() - usize::from(!is_end);
        for number in &numbers[..count] {
            let before = copies.get(&(number - 1));
            match copies.get(number) {
                Some(copy) => {
                    missing = 0;
                    let found = copy.generation(*number, before);
                    if found.concerns(app) && shown.len() < limit {
                        shown.push(found);
                    }
                }
                None => {
                    missing += 1;
                    if app.is_none() && shown.len() < limit && missing == 1 {
                        shown.push(Generation::unknown(*number));
                    }
                }
            }
        }
        top = if is_end { 0 } else { bottom };
    }
    Ok(shown)
}

/// A copy of an environment.
struct Copy {
    environment: Environment,
    change: Option<ManifestChange>,
    signature: Option<Result<(), String>>,
}

fn read_copies(
    store: &dyn Store,
    environment: &str,
    numbers: &[u64],
    signers: Option<&Signers>,
) -> Result<BTreeMap<u64, Copy>, CommandError> {
    let keys: Vec<String> = numbers
        .iter()
        .map(|n| history_key(environment, *n))
        .collect();
    let mut copies = BTreeMap::new();
    let mut failure = None;
    store.get_many(&keys, MAX_OBJECT_SIZE, &mut |index, answer| match answer {
        Ok(GetOutcome::Object(object)) => {
            let copy = Copy::parse(&keys[index], &object.body, environment, signers);
            copies.extend(copy.map(|copy| (numbers[index], copy)));
        }
        Ok(_) => {}
        Err(error) => {
            failure.get_or_insert(error);
        }
    });
    match failure {
        Some(error) => Err(PassError::Store(error).into()),
        None => Ok(copies),
    }
}

impl Copy {
    fn parse(key: &str, body: &[u8], name: &str, signers: Option<&Signers>) -> Option<Copy> {
        let mut manifest = Manifest::parse(key, body).ok()?;
        let environment = manifest.environments.remove(name)?;
        let change = environment.settings.as_ref().ok()?.change.clone();
        let at = change.as_ref().and_then(|change| change.at);
        let signature = signers.map(|signers| {
            // A key that has expired since signed it in time, as it says itself.
            let verified = verified_manifest(key, body, name, signers, at.unwrap_or_default());
            verified.map(|_| ()).map_err(|problem| problem.message)
        });
        Some(Copy {
            environment,
            change,
            signature,
        })
    }

    fn entry(&self, app: &str) -> Option<&AppEntry> {
        self.environment.own_entry(app)?.ok()
    }

    fn generation(&self, generation: u64, before: Option<&Copy>) -> Generation {
        let change = self.change.clone().unwrap_or_default();
        let named = change.apps.iter().map(|(app, named)| AppMove {
            app: app.clone(),
            from: named.from.clone(),
            to: named.to.clone(),
            next: named.next.clone(),
            reference: named.reference.clone(),
            commits: named.commits.clone(),
        });
        let mut apps: Vec<AppMove> = named.collect();
        // What somebody edited by hand, whatever the change says.
        for app in self.environment.app_names() {
            let (from, to) = match (before.map(|before| before.entry(app)), self.entry(app)) {
                (Some(from), Some(to)) => (from.map(|from| &from.sha), &to.sha),
                _ => continue,
            };
            if from != Some(to) && !apps.iter().any(|known| known.app == app) {
                apps.push(AppMove {
                    app: app.to_owned(),
                    from: from.cloned(),
                    to: Some(to.clone()),
                    next: None,
                    reference: None,
                    commits: Vec::new(),
                });
            }
        }
        Generation {
            generation,
            action: self.change.as_ref().map(|change| change.action),
            by: change.by,
            at: change.at,
            reason: change.reason,
            apps,
            settings: change.settings,
            signature: self.signature.clone(),
        }
    }
}

impl Generation {
    fn unknown(generation: u64) -> Generation {
        Generation {
            generation,
            action: None,
            by: None,
            at: None,
            reason: None,
            apps: Vec::new(),
            settings: Vec::new(),
            signature: None,
        }
    }

    fn concerns(&self, app: Option<&str>) -> bool {
        app.is_none_or(|app| self.apps.iter().any(|known| known.app == app))
    }
}

#[cfg(test)]
mod tests;
