//! Edits a manifest for `trueup publish`: the same text with other shas in it.

// The editor is our own: with yaml-edit 0.3.6 (6 more crates) 23 of the 34 edits in tests.rs come out right, even with
// its CRLF and quotes put right. It breaks a flow map of several lines that has comments, drops a tag, indents by two
// whatever the file does, and adds entries below comments that belong elsewhere.

use serde_json::Value;

use self::bump::next_generation;
use self::entry::{new_entries, new_manifest};
pub(crate) use self::request::{EditError, PublishRequest, ShaChange};
use super::{AppEntry, Environment, MAX_LISTED, Manifest, more_entries_warning};
use crate::problem::{Problem, nearest};
use crate::settings::is_name;
use crate::yaml::{InsertPosition, NodeKind, ParseLimits, YamlEditor, parse};

mod bump;
mod entry;
mod request;

/// The result of a publish request.
#[derive(Debug, Clone)]
pub(crate) struct ManifestEdit {
    /// The new text; `None` if every app is at its sha already.
    pub body: Option<Vec<u8>>,
    pub generation: Option<u64>,
    pub changes: Vec<ShaChange>,
    /// Reasons why hosts may not deploy the published sha, and other warnings.
    pub warnings: Vec<Problem>,
}

/// The text of a store's first manifest, before the request is applied.
const EMPTY_MANIFEST: &[u8] = b"generation: 0\n";

/// Applies a request to a manifest; `None`: there is none yet. `name` is the manifest's name in problems.
pub(crate) fn edit_manifest(
    name: &str,
    body: Option<&[u8]>,
    order: &PublishRequest,
) -> Result<ManifestEdit, EditError> {
    if body.is_none() && !order.create {
        return Err(EditError::request(
            Problem::new(format!("there is no manifest {name}"))
                .hint("add --create for the first manifest of a store; else check the store and --manifest"),
        ));
    }
    let manifest = Manifest::parse(name, body.unwrap_or(EMPTY_MANIFEST));
    let manifest = manifest.map_err(EditError::manifest)?;
    let changes = sha_changes(&manifest, name, order)?;
    let mut warnings = warnings(&manifest, order);
    let next = next_generation(&manifest, name, order, &mut warnings)?;
    let unmoved = changes.iter().all(|one| one.from.as_ref() == Some(&one.to));
    if unmoved && (order.above_fleet.is_none() || manifest.generation == Some(next)) {
        return Ok(ManifestEdit {
            body: None,
            generation: manifest.generation,
            changes,
            warnings,
        });
    }
    let edited = match body {
        Some(body) => ManifestWriter::new(name, body, &manifest, order)
            .and_then(|writer| writer.write(&changes, next))
            .map_err(EditError::manifest)?,
        None => new_manifest(&changes, next, order).into_bytes(),
    };
    let generation = verify_edit(name, &edited, order).map_err(EditError::manifest)?;
    warnings.extend(stale_reference(&manifest, order, &changes));
    Ok(ManifestEdit {
        body: Some(edited),
        generation: Some(generation),
        changes,
        warnings,
    })
}

/// Every app of the request with its current sha, validated before anything is edited.
fn sha_changes(
    manifest: &Manifest,
    name: &str,
    order: &PublishRequest,
) -> Result<Vec<ShaChange>, EditError> {
    let PublishRequest {
        environment,
        create,
        ..
    } = order;
    let known = manifest.environments.get(environment);
    if known.is_none() && !order.shas.is_empty() {
        let listed = manifest.environments.keys().map(String::as_str);
        let problem = Problem::new(format!("{name} has no environment `{environment}`"));
        check_may_be_new(problem, environment, listed, *create)?;
    }
    let mut changes = Vec::new();
    for (app, to) in &order.shas {
        let from = match known.and_then(|known| known.own_entry(app)) {
            Some(Ok(entry)) => Some(entry.sha.clone()),
            Some(Err(problem)) => return Err(EditError::manifest(problem.clone())),
            None => {
                let listed = known.into_iter().flat_map(Environment::app_names);
                let problem = Problem::new(format!("{name} has no app `{app}` in {environment}"));
                check_may_be_new(problem, app, listed, *create)?;
                None
            }
        };
        changes.push(ShaChange {
            app: app.clone(),
            from,
            to: to.clone(),
        });
    }
    Ok(changes)
}

fn check_may_be_new<'a>(
    unknown: Problem,
    word: &str,
    known: impl Iterator<Item = &'a str>,
    create: bool,
) -> Result<(), EditError> {
    if !create {
        /// More are not listed.
        const MOST_LISTED: usize = 12;
        let known: Vec<&str> = known.collect();
        let near = nearest(word, known.iter().copied());
        return Err(EditError::request(match (near, known.len()) {
            (Some(near), _) => {
                unknown.hint(format!("did you mean `{near}`? If it is new, add --create"))
            }
            (None, 1..=MOST_LISTED) => unknown.hint(format!(
                "it has {}; add --create if `{word}` is new",
                known.join(", ")
            )),
            (None, _) => unknown.hint("add --create if it is new"),
        }));
    }
    if !is_name(word) || word == "generation" {
        return Err(EditError::request(Problem::new(format!(
            "`{word}` cannot be the name of something new: expected letters, digits, `-`, `_` or `.`, starting with a letter or digit, and not `generation`"
        ))));
    }
    Ok(())
}

/// The reasons that keep hosts from a published sha, and bad entries of other apps.
fn warnings(manifest: &Manifest, order: &PublishRequest) -> Vec<Problem> {
    let mut warnings = Vec::new();
    let environment = &order.environment;
    for (app, sha) in &order.shas {
        let entry = manifest
            .environments
            .get(environment)
            .and_then(|known| known.own_entry(app)?.ok());
        let Some(entry) = entry else { continue };
        if let Some(hold) = entry.hold_at(order.at) {
            let until = hold
                .until
                .map_or("it is removed".into(), |until| until.to_string());
            warnings.push(Problem::new(format!(
                "{environment}/{app} is held by {} until {until}: {}; no host deploys the new sha before then",
                hold.by, hold.reason
            )));
        }
        for over in entry.overrides.iter().filter(|over| over.sha != *sha) {
            let tags: Vec<String> = over.tags.iter().map(|(k, v)| format!("{k}={v}")).collect();
            warnings.push(Problem::new(format!(
                "{environment}/{app}: an override keeps the nodes with {} at {}",
                tags.join(", "),
                over.sha.short()
            )));
        }
    }
    let touched =
        |name: &str, app: &str| name == environment && order.shas.iter().any(|(own, _)| own == app);
    let mut bad = 0;
    for (name, known) in &manifest.environments {
        let others = known.app_names().filter(|app| !touched(name, app));
        for problem in others.filter_map(|app| known.entry(app)?.err()) {
            bad += 1;
            if bad <= MAX_LISTED {
                warnings.push(problem.clone());
            }
        }
    }
    warnings.extend(more_entries_warning("the manifest", bad));
    warnings
}

/// Warns if the `ref` of the old sha stays because the request gives no other.
fn stale_reference(
    manifest: &Manifest,
    order: &PublishRequest,
    changes: &[ShaChange],
) -> Vec<Problem> {
    if order.reference.is_some() {
        return Vec::new();
    }
    let apps = manifest.environments.get(&order.environment);
    let changed = changes
        .iter()
        .filter(|one| one.from.as_ref() != Some(&one.to));
    changed
        .filter_map(|one| {
            let entry = apps?.own_entry(&one.app)?.ok()?;
            let reference = entry.reference.as_ref()?;
            Some(Problem::new(format!(
                "{}/{}: the manifest still says `ref: {reference}`, which belongs to the old sha: give the new one with --ref",
                order.environment, one.app
            )))
        })
        .collect()
}

/// The generation of the new text; verifies that hosts will read the requested shas from it.
fn verify_edit(name: &str, body: &[u8], order: &PublishRequest) -> Result<u64, Problem> {
    let manifest = Manifest::parse(name, body)?;
    let apps = manifest.environments.get(&order.environment);
    for (app, sha) in &order.shas {
        match apps.and_then(|apps| apps.entry(app)) {
            Some(Ok(AppEntry { sha: found, .. })) if found == sha => {}
            Some(Err(problem)) => return Err(problem.clone()),
            _ => {
                return Err(Problem::new(format!(
                    "internal error: the edited manifest would not have {app} at {sha}; nothing was written"
                )));
            }
        }
    }
    manifest.generation.ok_or_else(|| {
        Problem::new(
            "internal error: the edited manifest would have no generation; nothing was written",
        )
    })
}

/// Applies a request to the text.
struct ManifestWriter<'a> {
    draft: YamlEditor,
    manifest: &'a Manifest,
    tree: crate::yaml::Node,
    request: &'a PublishRequest,
}

impl<'a> ManifestWriter<'a> {
    fn new(
        name: &str,
        body: &[u8],
        manifest: &'a Manifest,
        order: &'a PublishRequest,
    ) -> Result<ManifestWriter<'a>, Problem> {
        Ok(ManifestWriter {
            draft: YamlEditor::new(name, body)?,
            tree: parse(name, body, ParseLimits::default())?,
            manifest,
            request: order,
        })
    }

    fn write(mut self, changes: &[ShaChange], generation: u64) -> Result<Vec<u8>, Problem> {
        let environment = self.request.environment.as_str();
        let moved = |one: &&ShaChange| one.from.as_ref().is_some_and(|from| *from != one.to);
        for one in changes.iter().filter(moved) {
            self.change_sha(one)?;
        }
        let new = changes.iter().filter(|one| one.from.is_none());
        if changes.is_empty() {
            // Only the generation changes.
        } else if self.tree.get(environment).is_none() {
            let apps = new_entries(new, self.request);
            self.draft
                .insert_entry(&[], InsertPosition::Last, environment, &apps)?;
        } else {
            for one in new {
                let value = self.request.new_entry(one);
                self.draft
                    .insert_entry(&[environment], InsertPosition::Last, &one.app, &value)?;
            }
        }
        self.set_generation(generation)?;
        self.draft.finish()
    }

    fn change_sha(&mut self, change: &ShaChange) -> Result<(), Problem> {
        let path = [self.request.environment.as_str(), change.app.as_str()];
        let entry = self.tree.get(path[0]).and_then(|apps| apps.get(path[1]));
        match entry.map(|entry| &entry.kind) {
            Some(NodeKind::Map(_)) => {}
            _ if self.request.reference.is_some() => {
                return self
                    .draft
                    .replace_with_map(&path, &self.request.new_entry(change));
            }
            _ => return self.draft.set(&path, &Value::from(change.to.as_str())),
        }
        // In the order of the long form, each below the previous one.
        let mut above = "sha";
        for (key, value) in self.request.long_form(change) {
            let field_path = [path[0], path[1], key];
            if entry.is_some_and(|entry| entry.get(key).is_some()) {
                self.draft.set(&field_path, &value)?;
            } else {
                self.draft
                    .insert_entry(&path, InsertPosition::After(above), key, &value)?;
            }
            above = key;
        }
        Ok(())
    }

    fn set_generation(&mut self, generation: u64) -> Result<(), Problem> {
        let value = Value::from(generation);
        match self.manifest.generation {
            Some(_) => self.draft.set(&["generation"], &value),
            None => self
                .draft
                .insert_entry(&[], InsertPosition::First, "generation", &value),
        }
    }
}

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
