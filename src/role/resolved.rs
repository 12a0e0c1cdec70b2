//! Completed resources, and what a secret that cannot be used means for them.

use std::collections::BTreeMap;

use super::catalog::Catalog;
use super::check::ConfigCheck;
use super::draft::Draft;
use super::outline::Outline;
use super::ports::RolePorts;
use crate::problem::{Problem, Problems};
use crate::resource::Failure;

/// A secret without a value, and the resources with another placeholder for it.
pub(super) struct MissingSecret<'a> {
    pub name: &'a str,
    pub outline: Outline,
    pub failure: &'a Failure,
}

/// The resources of an expansion, completed, or why one cannot be.
pub(super) struct ResolvedDrafts {
    pub drafts: Vec<Result<Draft, Problem>>,
    pub outline: Outline,
    /// The ids without a resource, the checks and the ports.
    pub expansion: (Vec<String>, BTreeMap<String, ConfigCheck>, RolePorts),
}

impl ResolvedDrafts {
    /// Checks the resources against each other.
    pub(super) fn build(self) -> Result<(Catalog, Outline), Problems> {
        let mut drafts = Vec::with_capacity(self.drafts.len());
        let mut problems = Vec::new();
        for draft in self.drafts {
            match draft {
                Ok(draft) => drafts.push(draft),
                Err(problem) => problems.push(problem),
            }
        }
        Problems::none(problems)?;
        let (skipped_ids, checks, ports) = self.expansion;
        let mut catalog = Catalog::build(drafts, &skipped_ids, checks)?;
        catalog.ports = ports.into_numbers();
        Ok((catalog, self.outline))
    }
}

impl Draft {
    /// Marks the resource as one that cannot be made because of a secret.
    pub(super) fn fail(&mut self, failure: Failure) {
        if let Some(release) = self.body.release_mut() {
            release.missing_secret = Some(failure.clone());
        }
        self.unresolved = Some(failure);
    }
}

/// Why a resource fails that the value of a secret makes invalid, without what might quote the value.
pub(super) fn unusable_value(hidden: &Problem) -> Failure {
    let at = hidden
        .at
        .as_ref()
        .map_or(String::new(), |at| format!("{at}: "));
    let failure = Failure::new(format!("{at}{}", hidden.message));
    match &hidden.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Why a secret counts as missing with whose value the roles cannot be expanded.
pub(super) fn unusable_secret(name: &str, Problems(hidden): &Problems) -> Failure {
    let failure = hidden.first().map(unusable_value);
    let failure = failure.unwrap_or_else(|| Failure::new("its value is unusable"));
    Failure {
        message: format!("the secret `{name}` cannot be used: {}", failure.message),
        ..failure
    }
}
