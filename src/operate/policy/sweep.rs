//! Removes bundles that nobody needs any more.

use std::collections::BTreeSet;
use std::time::Duration;

use super::PolicyTarget;
use crate::desired::{ContentDigest, Manifest, history_key};
use crate::operate::CommandError;
use crate::pass::PassError;
use crate::policy;
use crate::ports::store::{GetOutcome, MAX_OBJECT_SIZE};
use crate::problem::Problem;

/// How long a bundle stays that nothing names: a pass may have read the manifest before.
const KEEP_UNNAMED: Duration = Duration::from_secs(7 * 24 * 3600);

/// Generations of each environment whose bundles stay, so that people can go back to them.
const KEPT_GENERATIONS: u64 = 10;

impl PolicyTarget<'_> {
    /// Removes the bundles that neither the manifest nor the last generations of its environments name. A problem is a
    /// warning: the next push tries again.
    pub(super) fn sweep(&self) -> Option<Problem> {
        let error = self.remove_unnamed().err()?;
        Some(Problem::new(format!(
            "former policy bundles were not removed: {}",
            error.summary()
        )))
    }

    fn remove_unnamed(&self) -> Result<(), CommandError> {
        let objects = self
            .store
            .list(policy::OBJECTS_PREFIX)
            .map_err(PassError::Store)?;
        let now = self.store.server_time().unwrap_or(self.request.at);
        let is_old = |modified| {
            let age = Duration::try_from(now.duration_since(modified));
            age.unwrap_or_default() > KEEP_UNNAMED
        };
        let mut old: Vec<(String, ContentDigest)> = objects
            .into_iter()
            .filter(|object| is_old(object.modified))
            .filter_map(|object| Some((object.key.clone(), policy::digest_of_key(&object.key)?)))
            .collect();
        if old.is_empty() {
            return Ok(());
        }
        let named = self.named()?;
        old.retain(|(_, digest)| !named.contains(digest));
        for (key, _) in old {
            self.store.delete(&key).map_err(PassError::Store)?;
        }
        Ok(())
    }

    /// The bundles that the manifest names, for any environment, and those of their last generations.
    fn named(&self) -> Result<BTreeSet<ContentDigest>, CommandError> {
        let body = match self
            .store
            .get(self.manifest_key, None)
            .map_err(PassError::Store)?
        {
            GetOutcome::Object(object) => object.body,
            _ => return Err(CommandError::failed("there is no manifest")),
        };
        let manifest = Manifest::parse(self.manifest_key, &body).map_err(CommandError::input)?;
        let mut named = BTreeSet::new();
        add_named(&manifest, &mut named);
        let mut keys = Vec::new();
        for name in manifest.environments.keys() {
            let newest = manifest.generation_of(name).unwrap_or(0);
            let oldest = newest.saturating_sub(KEPT_GENERATIONS - 1).max(1);
            keys.extend((oldest..=newest).map(|generation| history_key(name, generation)));
        }
        let mut answers: Vec<Option<_>> = keys.iter().map(|_| None).collect();
        self.store
            .get_many(&keys, MAX_OBJECT_SIZE, &mut |number, answer| {
                answers[number] = Some(answer);
            });
        for answer in answers {
            // What is not known to be unnamed stays.
            let answer = answer.ok_or_else(|| CommandError::failed("the store did not answer"))?;
            if let GetOutcome::Object(object) = answer.map_err(PassError::Store)?
                && let Ok(copy) = Manifest::parse("history", &object.body)
            {
                add_named(&copy, &mut named);
            }
        }
        Ok(named)
    }
}

fn add_named(manifest: &Manifest, named: &mut BTreeSet<ContentDigest>) {
    for environment in manifest.environments.values() {
        let settings = environment.settings.iter();
        named.extend(settings.flat_map(|s| s.policy.iter().chain(&s.previous_policy).cloned()));
    }
}
