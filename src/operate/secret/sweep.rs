//! Removes the objects of former secrets.
//!
//! Hosts may follow an older generation, and another manifest in the same store may name an object. So only those go that are
//! known to be unnamed: no generation of the last week named them, and none of the last ten.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::SecretTarget;
use crate::desired::{Environment, Manifest, history_key};
use crate::operate::CommandError;
use crate::pass::PassError;
use crate::ports::store::{GetOutcome, MAX_OBJECT_SIZE};
use crate::problem::Problem;
use crate::secrets;
use crate::settings;

/// How long an object stays after it was last named.
const KEEP_UNNAMED: Duration = Duration::from_secs(7 * 24 * 3600);

/// The numbers of generations to look at, until one is older than [`KEEP_UNNAMED`]. Those of the first number keep their
/// objects at any age.
const WINDOWS: [u64; 3] = [10, 50, 200];

impl SecretTarget<'_> {
    /// Removes objects that were unnamed for a week. A problem is a warning: the next command tries again.
    pub(super) fn sweep(&self) -> Option<Problem> {
        let error = self.remove_unnamed().err()?;
        let why = format!(
            "objects of former secrets were not removed: {}",
            error.summary()
        );
        Some(Problem::new(why))
    }

    fn remove_unnamed(&self) -> Result<(), CommandError> {
        // The objects of an environment belong to all manifests of the store together, and no other one is known.
        if self.manifest_key != settings::default_manifest() {
            return Ok(());
        }
        let prefix = secrets::objects_prefix(self.environment);
        let mut objects = self.store.list(&prefix).map_err(PassError::Store)?;
        let now = self.store.server_time().unwrap_or(self.now);
        let is_old = |time: Timestamp| {
            let age = Duration::try_from(now.duration_since(time));
            age.unwrap_or_default() > KEEP_UNNAMED
        };
        let mut keys = BTreeSet::new();
        let manifest = self.store.get(self.manifest_key, None);
        let GetOutcome::Object(object) = manifest.map_err(PassError::Store)? else {
            return Ok(());
        };
        let manifest =
            Manifest::parse(self.manifest_key, &object.body).map_err(CommandError::input)?;
        let Some(newest) = manifest.generation_of(self.environment) else {
            return Ok(());
        };
        if !self.add_named(&manifest, &mut keys) {
            return Ok(());
        }
        let is_unnamed = |key: &String, keys: &BTreeSet<String>| !keys.contains(key);
        objects.retain(|object| is_old(object.modified) && is_unnamed(&object.key, &keys));
        for window in WINDOWS {
            if objects.is_empty() {
                return Ok(());
            }
            let oldest = newest.saturating_sub(window - 1).max(1);
            let Some(since) = self.add_generations(oldest, newest, &mut keys)? else {
                return Ok(());
            };
            if is_old(since) {
                objects.retain(|object| object.modified < since && is_unnamed(&object.key, &keys));
                for object in objects {
                    self.store.delete(&object.key).map_err(PassError::Store)?;
                }
                return Ok(());
            }
        }
        Ok(())
    }

    /// Adds the keys that these generations name; returns when the first of them was made. `None`: one is not known, so what
    /// it named is not either.
    fn add_generations(
        &self,
        oldest: u64,
        newest: u64,
        keys: &mut BTreeSet<String>,
    ) -> Result<Option<Timestamp>, CommandError> {
        let copies: Vec<String> = (oldest..=newest)
            .map(|generation| history_key(self.environment, generation))
            .collect();
        let mut answers: Vec<Option<_>> = copies.iter().map(|_| None).collect();
        self.store
            .get_many(&copies, MAX_OBJECT_SIZE, &mut |number, answer| {
                answers[number] = Some(answer);
            });
        let mut since = None;
        for (number, answer) in answers.into_iter().enumerate() {
            let answer = answer.ok_or_else(|| CommandError::failed("the store did not answer"))?;
            let GetOutcome::Object(object) = answer.map_err(PassError::Store)? else {
                return Ok(None);
            };
            let Ok(copy) = Manifest::parse(&copies[number], &object.body) else {
                return Ok(None);
            };
            if !self.add_named(&copy, keys) {
                return Ok(None);
            }
            if number == 0 {
                let environment = copy.environments.get(self.environment);
                since = environment.and_then(made_at);
            }
        }
        Ok(since)
    }

    /// Adds the keys of the objects that a manifest names. False: it does not show them.
    fn add_named(&self, manifest: &Manifest, keys: &mut BTreeSet<String>) -> bool {
        let environment = manifest.environments.get(self.environment);
        let Some(Ok(settings)) = environment.map(|environment| &environment.settings) else {
            return false;
        };
        let digests = settings.secrets.values();
        keys.extend(digests.map(|digest| secrets::object_key(self.environment, digest)));
        true
    }
}

fn made_at(environment: &Environment) -> Option<Timestamp> {
    environment.settings.as_ref().ok()?.change.as_ref()?.at
}
