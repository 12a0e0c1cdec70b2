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
    /// depends on a secret without a value is unresolved.
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
        let mut failed = Vec::new();
        for (name, value) in loaded {
            match value {
                Ok(value) => {
                    known.insert(name, value);
                }
                Err(failure) => failed.push((name, failure)),
            }
        }
        let values = SecretValues::new(known, Placeholders::Second);
        // The roles once more for each secret that is missing: what differs depends on it.
        let mut missing = Vec::new();
        for (name, failure) in failed {
            let expanded = sources.expand(&values.except(&name))?;
            let made = expanded.resolve_drafts(desired, None, &[]);
            let (_, outline) = made.map_err(|problems| values.conceal(problems))?;
            missing.push((outline, failure));
        }
        let expanded = sources.expand(&values)?;
        let made = expanded.resolve_drafts(desired, Some(&self.outline), &missing);
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

    /// `placeholders`: an expansion with other values of all secrets. `missing`: expansions with another placeholder for
    /// one secret, and why it has no value.
    fn resolve_drafts(
        mut self,
        desired: &DesiredState,
        placeholders: Option<&Outline>,
        missing: &[(Outline, Failure)],
    ) -> Result<(Catalog, Outline), Problems> {
        let mut drafts = std::mem::take(&mut self.drafts);
        if let Some(placeholders) = placeholders {
            self.check_same_resources(placeholders, &drafts)?;
        }
        let mut outline = self.outline(&drafts);
        let mut problems = Vec::new();
        for (number, draft) in drafts.iter_mut().enumerate() {
            let other = placeholders.map(|outline| &outline.resources[number]);
            let differing = other.map_or(Vec::new(), |other| other.differing_fields(draft));
            let resolved = check_secret_fields(draft, &differing)
                .and_then(|()| self.resolve_draft(draft, other, &differing));
            match resolved {
                Ok(rendered) => {
                    let failure = missing.iter().find_map(|(outline, failure)| {
                        let other = outline.resources.get(number)?;
                        other.differs(draft, &rendered).then(|| failure.clone())
                    });
                    if let Some(release) = draft.body.release_mut() {
                        release.set_desired(desired);
                        release.missing_secret.clone_from(&failure);
                    }
                    draft.unresolved = failure;
                    outline.resources[number].rendered = rendered;
                }
                Err(problem) => problems.push(problem),
            }
        }
        Problems::none(problems)?;
        let mut catalog = Catalog::build(drafts, &self.skipped_ids, self.checks)?;
        catalog.ports = self.ports.into_numbers();
        Ok((catalog, outline))
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
            let problem = Problem::new(
                "a secret decides which resources there are, or what their ids are: everybody can read those",
            )
            .hint("decide by a parameter in `when`, `for_each`, `id` and `requires`");
            return Err(match differing.or(drafts.last()) {
                Some(draft) => problem.at(&draft.at),
                None => problem,
            });
        }
        match self.checks.iter().find(|(name, check)| other.checks.get(*name) != Some(check)) {
            Some((name, _)) => Err(Problem::new("the arguments of a command are visible to all users of the host, so they may hold no secret")
                .field(format!("checks.{name}"))),
            None => Ok(()),
        }
    }

    /// Completes one resource; returns the templates that it rendered.
    fn resolve_draft(
        &mut self,
        draft: &mut Draft,
        other: Option<&OutlinedResource>,
        differing: &[FieldPath],
    ) -> Result<Vec<Option<String>>, Problem> {
        let inputs = RoleInputs {
            renderer: RefCell::new(&mut self.renderer),
            scope: &self.scopes[draft.scope],
            other: other.map(|other| (other, differing)),
            rendered: RefCell::default(),
        };
        match draft.body.resolve(&inputs) {
            Ok(()) => Ok(inputs.rendered.into_inner()),
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
