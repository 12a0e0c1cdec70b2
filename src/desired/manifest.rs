//! Parses and validates the manifest `sha_number.yml`.

use std::collections::BTreeMap;

use super::environment::{Environment, SETTINGS_KEY};
use crate::problem::{Location, Problem};
use crate::yaml::{self, ParseLimits};

/// A whole manifest. Environments and their entries are validated one by one, because a mistake in what a host
/// does not run does not concern it.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    pub generation: Option<u64>,
    /// The location of the generation, or the start of the file.
    pub generation_at: Location,
    pub environments: BTreeMap<String, Environment>,
}

impl Manifest {
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
}
