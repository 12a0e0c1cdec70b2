//! Parses and validates the manifest `sha_number.yml`.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::environment::{Environment, SETTINGS_KEY};
use crate::problem::{Location, Problem};
use crate::yaml::{self, ParseLimits};

/// The key of the signatures of environments.
pub(super) const SIGNATURES_KEY: &str = "_signatures";

/// A whole manifest. Environments and their entries are validated one by one, because a mistake in what a host
/// does not run does not concern it.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    /// The generation of the environments that have none of their own.
    pub generation: Option<u64>,
    /// The location of that generation, or the start of the file.
    generation_at: Location,
    pub environments: BTreeMap<String, Environment>,
}

impl Manifest {
    /// That it has no such environment, or no such app there, and what it has. All commands say it in the same words.
    pub(crate) fn unknown_name(&self, environment: &str, app: Option<&str>) -> Problem {
        match (self.environments.get(environment), app) {
            (Some(found), Some(app)) => {
                Problem::new(format!("the manifest has no app `{app}` in {environment}"))
                    .suggest_or_list(app, found.app_names())
            }
            _ => Problem::new(format!("the manifest has no environment `{environment}`"))
                .suggest_or_list(environment, self.environments.keys().map(String::as_str)),
        }
    }

    /// `name` is the file's name in errors.
    pub(crate) fn parse(name: &str, body: &[u8]) -> Result<Manifest, Problem> {
        let tree = yaml::parse(name, body, ParseLimits::default())?;
        let expected = "a map of environments to apps to shas";
        let entries = tree.expect_map(expected)?;
        if entries.is_empty() {
            return Err(
                Problem::new(format!("the manifest is empty; expected {expected}")).at(&tree.at),
            );
        }
        let mut manifest = Manifest {
            generation: None,
            generation_at: tree.at.clone(),
            environments: BTreeMap::new(),
        };
        for entry in entries {
            if entry.key == "generation" {
                manifest.generation_at = entry.value.at.clone();
                manifest.generation =
                    Some(yaml::decode(&entry.value).map_err(|p| p.field("generation"))?);
                continue;
            }
            if entry.key == SIGNATURES_KEY {
                continue;
            }
            if entry.key == SETTINGS_KEY {
                let problem = Problem::new(format!("`{SETTINGS_KEY}` is no environment"));
                return Err(problem
                    .at(&entry.key_at)
                    .hint("it goes below an environment, beside its apps"));
            }
            let environment = Environment::parse(&entry.value).map_err(|problem| {
                problem
                    .field(entry.key.clone())
                    .suggest(&entry.key, ["generation"])
            })?;
            manifest.environments.insert(entry.key.clone(), environment);
        }
        Ok(manifest)
    }

    /// The generation of an environment: its own, or that of the file.
    pub(crate) fn generation_of(&self, environment: &str) -> Option<u64> {
        let own = self.environments.get(environment);
        own.and_then(Environment::generation).or(self.generation)
    }

    /// When an operator last asked for a pass of every host of an environment.
    pub(super) fn passes_requested_at(&self, environment: &str) -> Option<Timestamp> {
        let own = self.environments.get(environment)?;
        own.settings.as_ref().ok()?.passes_requested_at
    }

    /// The location of an environment's generation, or the start of the file.
    pub(super) fn generation_location(&self, environment: &str) -> &Location {
        let own = self.environments.get(environment);
        let own = own.and_then(|own| own.generation_at.as_ref());
        own.unwrap_or(&self.generation_at)
    }
}
