//! Completes the resources of an expansion, and finds out which of their fields depend on secrets.
//!
//! The roles are expanded first with placeholders in place of secrets: the manifest, which names the secrets, is read
//! for the apps of the host, which the roles name. Only if a secret was rendered they are expanded once more, with the
//! values. What differs between the two expansions depends on a secret, so nothing has to follow values through
//! parameters, loops and filters; and a mistake in a role shows in the first one, whose texts contain no value.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::catalog::Catalog;
use super::draft::Draft;
use super::expand::{RoleExpansion, RoleSources};
use super::inputs::RoleInputs;
use super::outline::{self, FieldPath, Outline, OutlinedResource};
use super::resolved::{MissingSecret, ResolvedDrafts, unusable_secret, unusable_value};
use super::secret_taint::{deciding_secret, secret_argument};
use super::secret_values::{Placeholders, SecretValues};
use crate::desired::DesiredState;
use crate::problem::{Problem, Problems, one_of};
use crate::resource::Failure;
use crate::secrets::LoadedSecrets;

/// A catalog whose secrets have placeholders.
pub(crate) struct DraftCatalog {
    catalog: Catalog,
    outline: Outline,
    /// The names of the secrets that were rendered.
    used: BTreeSet<String>,
}

impl DraftCatalog {
    /// The secrets that the resources use.
    pub(crate) fn used_secrets(&self) -> &BTreeSet<String> {
        &self.used
    }

    pub(crate) fn resource_count(&self) -> usize {
        self.catalog.resources.len()
    }

    /// Checks, without any value, that each secret is used only where it stays one.
    pub(crate) fn check_secrets(
        self,
        desired: &DesiredState,
        sources: &mut RoleSources<'_, '_>,
    ) -> Result<DraftCatalog, Problems> {
        if !self.used.is_empty() {
            let values = SecretValues::placeholders(Placeholders::Second);
            let checked =
                sources
                    .expand(&values)?
                    .resolve_drafts(desired, Some(&self.outline), &[]);
            checked.map_err(|problems| values.conceal(problems))?;
            if values.used() != self.used {
                return Err(
                    Problem::new("the name of a secret depends on another secret")
                        .hint("write the names out, or decide by a parameter")
                        .into(),
                );
            }
        }
        Ok(self)
    }

    /// The catalog with the values of its secrets, which [`DraftCatalog::check_secrets`] comes before. A resource that
    /// depends on a secret without a value, or cannot be made with the value, is unresolved. A secret with whose value the
    /// roles cannot be expanded counts as one without a value: who sets a secret must not stop hosts.
    pub(crate) fn with_secrets(
        self,
        loaded: LoadedSecrets,
        desired: &DesiredState,
        sources: &mut RoleSources<'_, '_>,
    ) -> Result<Catalog, Problems> {
        if self.used.is_empty() {
            return Ok(self.catalog);
        }
        let mut known = BTreeMap::new();
        let mut failed = BTreeMap::new();
        for (name, value) in loaded {
            match value {
                Ok(value) => {
                    known.insert(name, value);
                }
                Err(failure) => {
                    failed.insert(name, failure);
                }
            }
        }
        loop {
            let made = self.fill_in(&known, &failed, desired, sources);
            let Err(problems) = made else {
                return made;
            };
            if known.is_empty() {
                return Err(problems);
            }
            let mut unusable: Vec<String> = Vec::new();
            for (name, value) in &known {
                let alone = BTreeMap::from([(name.clone(), value.clone())]);
                if self
                    .fill_in(&alone, &BTreeMap::new(), desired, sources)
                    .is_err()
                {
                    unusable.push(name.clone());
                }
            }
            // Each alone is usable, but not together.
            if unusable.is_empty() {
                unusable.extend(known.keys().cloned());
            }
            for name in unusable {
                known.remove(&name);
                let failure = unusable_secret(&name, &problems);
                failed.insert(name, failure);
            }
        }
    }

    fn fill_in(
        &self,
        known: &BTreeMap<String, String>,
        failed: &BTreeMap<String, Failure>,
        desired: &DesiredState,
        sources: &mut RoleSources<'_, '_>,
    ) -> Result<Catalog, Problems> {
        let values = SecretValues::new(known.clone(), Placeholders::Second);
        // The roles once more for each secret that is missing: what differs depends on it.
        let mut missing = Vec::new();
        for (name, failure) in failed {
            let expanded = sources.expand(&values.except(name))?;
            let resolved = expanded.resolve_each(desired, Some(&self.outline), &[]);
            let resolved = resolved.map_err(|problems| values.conceal(problems))?;
            missing.push(MissingSecret {
                name,
                outline: resolved.outline,
                failure,
            });
        }
        let expanded = sources.expand(&values)?;
        let resolved = expanded.resolve_each(desired, Some(&self.outline), &missing);
        let mut resolved = resolved.map_err(|problems| values.conceal(problems))?;
        if resolved.drafts.iter().any(Result::is_err) {
            // Nothing acts on these: they have placeholders.
            let placeholders = SecretValues::placeholders(Placeholders::Second);
            let expanded = sources.expand(&placeholders)?;
            let others = expanded.resolve_each(desired, Some(&self.outline), &[])?;
            for (draft, other) in resolved.drafts.iter_mut().zip(others.drafts) {
                if let Err(problem) = draft {
                    let failure = unusable_value(&values.hide(problem.clone()));
                    let mut other = other?;
                    other.fail(failure);
                    *draft = Ok(other);
                }
            }
        }
        let made = resolved.build();
        let (catalog, _) = made.map_err(|problems| values.conceal(problems))?;
        if let Some(name) = values.used().difference(&self.used).next() {
            return Err(Problem::new(format!(
                "the secret `{name}` is used only if another one has a certain value"
            ))
            .hint("use it in any case, or decide by a parameter")
            .into());
        }
        Ok(catalog)
    }
}

impl RoleExpansion<'_, '_> {
    /// Completes every resource and checks them against each other, so that every mistake is found before the
    /// host is inspected.
    pub(crate) fn resolve(self, desired: &DesiredState) -> Result<DraftCatalog, Problems> {
        let secrets = self.secrets.clone();
        let (catalog, outline) = self.resolve_drafts(desired, None, &[])?;
        Ok(DraftCatalog {
            catalog,
            outline,
            used: secrets.used(),
        })
    }

    /// All of it, or every mistake.
    fn resolve_drafts(
        self,
        desired: &DesiredState,
        placeholders: Option<&Outline>,
        missing: &[MissingSecret<'_>],
    ) -> Result<(Catalog, Outline), Problems> {
        self.resolve_each(desired, placeholders, missing)?.build()
    }

    /// Completes each resource. `placeholders`: an expansion with other values of all secrets. `missing`: expansions with
    /// another placeholder for one secret, and why it has no value.
    fn resolve_each(
        mut self,
        desired: &DesiredState,
        placeholders: Option<&Outline>,
        missing: &[MissingSecret<'_>],
    ) -> Result<ResolvedDrafts, Problems> {
        let drafts = std::mem::take(&mut self.drafts);
        if let Some(placeholders) = placeholders {
            self.check_same_resources(placeholders, &drafts)?;
        }
        let mut outline = self.outline(&drafts);
        let mut resolved = Vec::with_capacity(drafts.len());
        for (number, mut draft) in drafts.into_iter().enumerate() {
            let other = placeholders.map(|outline| &outline.resources[number]);
            let secret_paths = other.map_or(Vec::new(), |other| other.secret_paths(&draft));
            let done = check_secret_fields(&draft, &secret_paths)
                .and_then(|()| self.resolve_draft(&mut draft, other, &secret_paths));
            resolved.push(done.map(|(rendered, names)| {
                let failure = missing.iter().find_map(|missing| {
                    let other = missing.outline.resources.get(number)?;
                    let depends = names.contains(missing.name) || other.differs(&draft, &rendered);
                    depends.then(|| missing.failure.clone())
                });
                if let Some(release) = draft.body.release_mut() {
                    release.set_desired(desired);
                }
                if let Some(failure) = failure {
                    draft.fail(failure);
                }
                outline.resources[number].rendered = rendered;
                draft
            }));
        }
        Ok(ResolvedDrafts {
            drafts: resolved,
            outline,
            expansion: (self.skipped_ids, self.checks, self.ports),
        })
    }

    fn outline(&self, drafts: &[Draft]) -> Outline {
        let with_fields = self.secrets.is_used();
        let resources = drafts.iter();
        Outline {
            resources: resources
                .map(|draft| OutlinedResource::of(draft, with_fields))
                .collect(),
            skipped_ids: self.skipped_ids.clone(),
            checks: self.checks.clone(),
        }
    }

    /// Refuses roles in which a secret decides what there is to do.
    fn check_same_resources(&self, other: &Outline, drafts: &[Draft]) -> Result<(), Problem> {
        let pairs = other.resources.iter().zip(drafts);
        let differing = pairs
            .into_iter()
            .find(|(other, draft)| !other.is_same_resource(draft))
            .map(|(_, draft)| draft);
        let is_same = other.resources.len() == drafts.len()
            && other.skipped_ids == self.skipped_ids
            && differing.is_none();
        if !is_same {
            let problem = deciding_secret();
            return Err(match differing.or(drafts.last()) {
                Some(draft) => problem.at(&draft.at),
                None => problem,
            });
        }
        match self
            .checks
            .iter()
            .find(|(name, check)| other.checks.get(*name) != Some(check))
        {
            Some((name, _)) => Err(secret_argument(name)),
            None => Ok(()),
        }
    }

    /// Completes one resource; returns the templates that it rendered, and the secrets that it depends on as far as the role
    /// shows them.
    fn resolve_draft(
        &mut self,
        draft: &mut Draft,
        other: Option<&OutlinedResource>,
        secret_paths: &[FieldPath],
    ) -> Result<(Vec<Option<String>>, BTreeSet<String>), Problem> {
        let names = draft.secret_fields.iter();
        let names = names.flat_map(|leaf| leaf.names.iter().cloned());
        let inputs = RoleInputs {
            renderer: RefCell::new(&mut self.renderer),
            scope: &self.scopes[draft.scope],
            other,
            secret_paths,
            secret_fields: &draft.secret_fields,
            names: RefCell::new(names.collect()),
            rendered: RefCell::default(),
        };
        match draft.body.resolve(&inputs) {
            Ok(()) => Ok((inputs.rendered.into_inner(), inputs.names.into_inner())),
            Err(problem) => {
                let problem = draft.parameters.blame(problem, &draft.node, &draft.at);
                Err(problem.at(&draft.at).resource(draft.id.clone()))
            }
        }
    }
}

/// The catalog with placeholders in place of secrets, for tests.
#[cfg(test)]
pub(crate) fn compile_offline(
    settings: &crate::settings::Settings,
    facts: &crate::facts::Facts,
    peers: &mut crate::fleet::PeerSource<'_>,
    root: &str,
) -> Result<Catalog, Problems> {
    let desired = DesiredState::empty();
    let mut sources = RoleSources {
        settings,
        facts,
        peers,
        root,
    };
    let expanded = sources.expand(&SecretValues::placeholders(Placeholders::First))?;
    let drafted = expanded.resolve(&desired)?;
    Ok(drafted.check_secrets(&desired, &mut sources)?.catalog)
}

/// Refuses a secret in a field from which others can read it.
fn check_secret_fields(draft: &Draft, differing: &[FieldPath]) -> Result<(), Problem> {
    let exposed = differing
        .iter()
        .find(|field| !draft.body.accepts_secret(field));
    let Some(field) = exposed else {
        return Ok(());
    };
    let accepted = draft.body.secret_fields();
    let kind = draft.body.kind();
    let hint = match accepted.is_empty() {
        true => format!(
            "no field of a `{kind}` may: put it in a `file` or `template` that only its reader can open"
        ),
        false => format!("in a `{kind}`, a secret may be in {}", one_of(&accepted)),
    };
    let at = draft.node.at_path(&field.join("."));
    let problem = Problem::new("it depends on a secret, and would not stay one here")
        .resource(draft.id.clone())
        .field(outline::shown(field))
        .hint(hint);
    Err(problem.at(at.map_or(&draft.at, |node| &node.at)))
}
