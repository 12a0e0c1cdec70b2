//! What a manifest wants of one node.

use super::Manifest;
use super::node::NodeContext;
use super::state::{DesiredState, Freshness};
use crate::problem::Problem;

/// The manifest's entries for this node. A bad entry of one of its own apps is a refusal, and so are bad settings
/// of its environment.
pub(super) fn select_apps(
    manifest: &Manifest,
    name: &str,
    node: &NodeContext<'_>,
    apps: &[String],
    freshness: Freshness,
) -> Result<DesiredState, Problem> {
    let mut desired = DesiredState {
        freshness,
        generation: manifest.generation_of(node.environment),
        ..DesiredState::empty()
    };
    let Some(environment) = manifest.environments.get(node.environment) else {
        let known = || manifest.environments.keys().map(String::as_str);
        if !manifest.environments.is_empty() {
            desired.warnings.push(
                Problem::new(format!(
                    "{name} has no environment `{}` (it has {}): nothing to deploy yet",
                    node.environment,
                    format_names(known())
                ))
                .suggest(node.environment, known()),
            );
        }
        return Ok(desired);
    };
    match &environment.settings {
        Ok(settings) => {
            desired.secrets.clone_from(&settings.secrets);
            desired.notify.clone_from(&settings.notify);
            desired.change.clone_from(&settings.change);
        }
        Err(problem) => return Err(problem.clone()),
    }
    let mut bad = 0;
    for app in environment.app_names() {
        if apps.iter().any(|own| own == app) {
            if let Some(entry) = environment.desired_app(app, node.tags, node.now) {
                let entry = entry.map_err(Problem::clone)?;
                desired.apps.insert(app.to_owned(), entry);
            }
        } else if let Some(Err(problem)) = environment.entry(app) {
            bad += 1;
            if bad <= MAX_LISTED {
                desired.warnings.push(problem.clone());
            }
        }
    }
    desired.warnings.extend(more_entries_warning(name, bad));
    for app in apps.iter().filter(|app| !environment.has_app(app)) {
        let problem = Problem::new(format!(
            "nothing to deploy yet: {name} has no `{app}` in {}",
            node.environment
        ));
        desired
            .warnings
            .push(problem.suggest(app, environment.app_names()));
    }
    Ok(desired)
}

/// Maximum number of names or problems of a manifest in messages: it may have a hundred thousand.
pub(super) const MAX_LISTED: usize = 10;

/// `a, b, c and more`.
fn format_names<'a>(mut names: impl Iterator<Item = &'a str>) -> String {
    let some: Vec<String> = names.by_ref().take(MAX_LISTED).map(truncate_name).collect();
    let more = if names.next().is_some() {
        " and more"
    } else {
        ""
    };
    some.join(", ") + more
}

/// An untrusted name, truncated for messages.
fn truncate_name(name: &str) -> String {
    const LONGEST: usize = 80;
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// The warning that there are more bad entries than shown.
pub(super) fn more_entries_warning(name: &str, bad: usize) -> Option<Problem> {
    let more = bad.checked_sub(MAX_LISTED).filter(|more| *more > 0)?;
    Some(Problem::new(format!(
        "{name} has {more} more entries like these"
    )))
}
