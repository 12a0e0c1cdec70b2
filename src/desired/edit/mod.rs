//! Edits a manifest for `trueup publish`: the same text with other shas in it.

// The editor is our own: with yaml-edit 0.3.6 (6 more crates) 23 of the 34 edits in tests.rs come out right, even with
// its CRLF and quotes put right. It breaks a flow map of several lines that has comments, drops a tag, indents by two
// whatever the file does, and adds entries below comments that belong elsewhere.

use self::bump::next_generation;
use self::entry::new_manifest;
use self::note::{check_notes, no_entry};
use self::overtaken::check_overtaken;
pub(crate) use self::request::{
    CommitList, EditError, HoldRequest, NoteChange, NoteEdit, PublishRequest, SettingEdit,
    ShaChange,
};
use self::settings::{changes_settings, check_expected, edit_settings};
use self::stamp::stamp;
use self::writer::ManifestWriter;
use super::entry::AppEntry;
use super::environment::{is_reserved, reserved_name_problem};
use super::{Action, Environment, Manifest, Sha};
use crate::problem::{Problem, nearest};
use crate::settings::is_name;
use crate::yaml::{ParseLimits, parse};

mod bump;
mod entry;
mod hold;
mod note;
mod overtaken;
mod request;
mod settings;
mod stamp;
mod warnings;
mod writer;

/// The result of a publish request.
#[derive(Debug, Clone)]
pub(crate) struct ManifestEdit {
    /// The new text; `None` if every app is at its sha already.
    pub body: Option<Vec<u8>>,
    /// What the text says.
    pub manifest: Manifest,
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
    if let HoldRequest::Set {
        until: Some(until), ..
    } = order.hold
        && until <= order.now
    {
        return Err(EditError::request(
            Problem::new(format!("a hold until {until} is over already"))
                .hint(format!("the store's time is {:.0}", order.now)),
        ));
    }
    let manifest = Manifest::parse(name, body.unwrap_or(EMPTY_MANIFEST));
    let manifest = manifest.map_err(EditError::manifest)?;
    check_notes(&manifest, order)?;
    check_settings_owner(&manifest, order)?;
    let changes = sha_changes(&manifest, name, order)?;
    if order.restart.is_some() {
        check_entries(&manifest, order, &changes).map_err(EditError::manifest)?;
    }
    check_holds(&manifest, order, &changes)?;
    let mut warnings = check_overtaken(order, &changes)?;
    warnings.extend(warnings::blocked_hosts(&manifest, order));
    let next = next_generation(&manifest, name, order, &mut warnings)?;
    let known = manifest.environments.get(&order.environment);
    let hold = |app: &str| known.and_then(|known| known.own_entry(app)?.ok()?.hold.clone());
    let is_unmoved = |one: &ShaChange| {
        one.from.as_ref() == Some(&one.to)
            && order.hold_of(&one.to, hold(&one.app).as_ref()).is_none()
    };
    let unmoved = changes.iter().all(is_unmoved);
    let generation = manifest.generation_of(&order.environment);
    let next_shas = |(app, sha): &(String, Sha)| {
        let entry = known.and_then(|known| known.own_entry(app)?.ok());
        entry.and_then(|entry| entry.next.as_ref()) == Some(sha)
    };
    let tree = parse(name, body.unwrap_or(EMPTY_MANIFEST), ParseLimits::default());
    let tree = tree.map_err(EditError::manifest)?;
    check_expected(&tree, order)?;
    let is_other_change = order.restart.is_some()
        || !order.notes.is_empty()
        || !order.next.iter().all(next_shas)
        || changes_settings(&tree, order);
    if unmoved && !is_other_change && (order.above_fleet.is_none() || generation == Some(next)) {
        check_entries(&manifest, order, &changes).map_err(EditError::manifest)?;
        warnings.extend(warnings::other_problems(&manifest, order));
        return Ok(ManifestEdit {
            body: None,
            generation,
            manifest,
            changes,
            warnings,
        });
    }
    check_protection(&manifest, order)?;
    check_unmoved(&manifest, order)?;
    // Validated before the change is written into it, which moves the lines that a problem names.
    let edited = write_changes(name, body, &manifest, order, &changes)
        .and_then(|body| edit_settings(name, &body, order))
        .map_err(EditError::manifest)?;
    let after = verify_edit(name, &edited, order, &changes)
        .map_err(|problem| EditError::manifest(placed_in_current(problem, &manifest, order)))?;
    let stamped = stamp(name, &edited, next, &order.change(&changes), order)
        .and_then(|body| {
            verify_edit(name, &body, order, &changes)?;
            Ok(body)
        })
        .map_err(EditError::manifest)?;
    warnings.extend(warnings::other_problems(&after, order));
    Ok(ManifestEdit {
        body: Some(stamped),
        generation: Some(next),
        manifest: after,
        changes,
        warnings,
    })
}

/// The text with the changes of apps, and with everything else as it was.
fn write_changes(
    name: &str,
    body: Option<&[u8]>,
    manifest: &Manifest,
    order: &PublishRequest,
    changes: &[ShaChange],
) -> Result<Vec<u8>, Problem> {
    let first = body.is_none().then(|| new_manifest(changes, order));
    let (body, changes) = match (&first, body) {
        (Some(first), _) => (first.as_bytes(), &[][..]),
        (None, body) => (body.unwrap_or_default(), changes),
    };
    ManifestWriter::new(name, body, manifest, order)?.write(changes)
}

/// Refuses a change of a protected environment that nobody has confirmed.
fn check_protection(manifest: &Manifest, order: &PublishRequest) -> Result<(), EditError> {
    let name = &order.environment;
    let environment = manifest.environments.get(name);
    let settings = environment.and_then(|environment| environment.settings.as_ref().ok());
    let is_protected = settings.is_some_and(|settings| settings.protected);
    match is_protected && !order.confirmed && !order.dry_run {
        false => Ok(()),
        true => Err(EditError::Protected(Box::new(
            Problem::new(format!("{name} is protected (`_settings.protected`)"))
                .hint("`--yes` confirms the change; nothing was written"),
        ))),
    }
}

/// Refuses a change of an environment that is not the one any more that a person was shown.
fn check_unmoved(manifest: &Manifest, order: &PublishRequest) -> Result<(), EditError> {
    let generation = manifest.generation_of(&order.environment);
    match (order.confirmed_at, generation) {
        (Some(shown), Some(generation)) if shown != generation => Err(EditError::Moved {
            environment: order.environment.clone(),
            generation,
        }),
        _ => Ok(()),
    }
}

/// Refuses shas that holds block, if the request asks for that.
fn check_holds(
    manifest: &Manifest,
    order: &PublishRequest,
    changes: &[ShaChange],
) -> Result<(), EditError> {
    if !order.refuses_holds {
        return Ok(());
    }
    let moved = changes.iter();
    let moved = moved.filter(|one| one.from.as_ref() != Some(&one.to));
    let mut blocked = moved.filter_map(|one| {
        let problem = warnings::blocking_hold(manifest, order, &one.app, &one.to)?;
        Some((&one.app, problem))
    });
    match blocked.next() {
        None => Ok(()),
        Some((app, problem)) => {
            let ahead = match order.action {
                Action::Publish => "`--next` builds it ahead meanwhile; ",
                _ => "",
            };
            let environment = &order.environment;
            Err(EditError::Held(Box::new(problem.hint(format!(
                "{ahead}`trueup unhold {environment} {app}` ends the hold; nothing was written"
            )))))
        }
    }
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
        if is_reserved(app) {
            return Err(EditError::request(reserved_name_problem(app)));
        }
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
    for app in &order.held_apps {
        let entry = known.and_then(|known| known.own_entry(app));
        let entry = entry.ok_or_else(|| no_entry(manifest, environment, app))?;
        let sha = &entry
            .map_err(|problem| EditError::manifest(problem.clone()))?
            .sha;
        changes.push(ShaChange {
            app: app.clone(),
            from: Some(sha.clone()),
            to: sha.clone(),
        });
    }
    for (app, _) in &order.next {
        let entry = known.and_then(|known| known.own_entry(app));
        entry
            .ok_or_else(|| no_entry(manifest, environment, app))?
            .map_err(|problem| EditError::manifest(problem.clone()))?;
    }
    Ok(changes)
}

/// Refuses edits of the settings of an environment that there is not.
fn check_settings_owner(manifest: &Manifest, order: &PublishRequest) -> Result<(), EditError> {
    let name = &order.environment;
    if order.settings.is_empty() || order.create || manifest.environments.contains_key(name) {
        return Ok(());
    }
    Err(EditError::request(manifest.unknown_name(name, None)))
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

/// Parses the new text, and verifies that hosts will read the requested shas from it.
fn verify_edit(
    name: &str,
    body: &[u8],
    order: &PublishRequest,
    changes: &[ShaChange],
) -> Result<Manifest, Problem> {
    let manifest = Manifest::parse(name, body)?;
    check_entries(&manifest, order, changes)?;
    let environment = manifest.environments.get(&order.environment);
    if let Some(Err(problem)) = environment.map(|environment| &environment.settings) {
        return Err(problem.clone());
    }
    Ok(manifest)
}

/// The problem of the new text with its place in the current one, if it is there already: nobody has the new one.
fn placed_in_current(problem: Problem, current: &Manifest, order: &PublishRequest) -> Problem {
    let environment = current.environments.get(&order.environment);
    let apps = order.shas.iter();
    let problems = apps.filter_map(|(app, _)| environment?.entry(app)?.err());
    let settings = environment.and_then(|known| known.settings.as_ref().err());
    let mut current = problems.chain(settings);
    let same = current.find(|known| known.message == problem.message);
    same.cloned().unwrap_or(problem)
}

/// Whether the hold is the one of the request, if it has one.
fn is_held_as_asked(entry: &AppEntry, order: &PublishRequest) -> bool {
    let hold = entry.hold_at(order.now);
    match &order.hold {
        HoldRequest::Keep => true,
        HoldRequest::Set { .. } => {
            let written = entry.hold.as_ref();
            order.hold_of(&entry.sha, written).is_none()
        }
        HoldRequest::Lift => hold.is_none(),
    }
}

/// Whether hosts may act on the entries of the request, and read its shas from them.
fn check_entries(
    manifest: &Manifest,
    order: &PublishRequest,
    changes: &[ShaChange],
) -> Result<(), Problem> {
    let environment = manifest.environments.get(&order.environment);
    for ShaChange { app, to: sha, .. } in changes {
        match environment.and_then(|known| known.entry(app)) {
            Some(Ok(entry)) if entry.sha == *sha && is_held_as_asked(entry, order) => {}
            Some(Err(problem)) => return Err(problem.clone()),
            _ => {
                return Err(Problem::new(format!(
                    "internal error: the edited manifest would not have {app} at {sha}; nothing was written"
                )));
            }
        }
    }
    for app in order.others() {
        if is_reserved(app) {
            return Err(reserved_name_problem(app));
        }
        let entry = environment.and_then(|known| known.entry(app));
        entry.transpose().map_err(Clone::clone)?.ok_or_else(|| {
            let environment = &order.environment;
            Problem::new(format!(
                "the manifest wants nothing of `{app}` in {environment}"
            ))
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod above_fleet_tests;
#[cfg(test)]
mod hold_tests;
#[cfg(test)]
mod policy_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod record_tests;
#[cfg(test)]
mod refusal_tests;
#[cfg(test)]
mod tests;
