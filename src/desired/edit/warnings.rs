//! What a publisher should know, although the request is carried out.

use super::request::PublishRequest;
use crate::desired::{Environment, MAX_LISTED, Manifest, RolloutMode, Sha, more_entries_warning};
use crate::problem::Problem;

/// The hold in force that keeps the hosts of an app from a sha.
pub(super) fn blocking_hold(
    manifest: &Manifest,
    order: &PublishRequest,
    app: &str,
    sha: &Sha,
) -> Option<Problem> {
    let environment = &order.environment;
    let entry = manifest.environments.get(environment)?;
    let hold = entry.own_entry(app)?.ok()?.hold_at(order.now)?;
    let blocks = hold.blocks(sha) && !order.replaces_hold();
    let until = hold.until;
    let until = until.map_or("it is removed".into(), |until| until.to_string());
    blocks.then(|| {
        Problem::new(format!(
            "{environment}/{app} is held by {} until {until}: {}; no host deploys the new sha before then",
            hold.by, hold.reason
        ))
    })
}

/// The holds and overrides that keep hosts from a published sha. `manifest` is the current one.
pub(super) fn blocked_hosts(manifest: &Manifest, order: &PublishRequest) -> Vec<Problem> {
    let mut warnings = Vec::new();
    let environment = &order.environment;
    for (app, sha) in &order.shas {
        let entry = manifest
            .environments
            .get(environment)
            .and_then(|known| known.own_entry(app)?.ok());
        let Some(entry) = entry else { continue };
        warnings.extend(blocking_hold(manifest, order, app, sha));
        for over in entry.overrides.iter().filter(|over| over.sha != *sha) {
            let tags: Vec<String> = over.tags.iter().map(|(k, v)| format!("{k}={v}")).collect();
            warnings.push(Problem::new(format!(
                "{environment}/{app}: an override keeps the nodes with {} at {}",
                tags.join(", "),
                over.sha.short()
            )));
        }
    }
    warnings
}

/// Mistakes in what the request does not touch, and orders of apps that need an operator. `manifest` is the new
/// one.
pub(super) fn other_problems(manifest: &Manifest, order: &PublishRequest) -> Vec<Problem> {
    let mut warnings = Vec::new();
    let mut bad = 0;
    let mut add = |problem: &Problem| {
        bad += 1;
        if bad <= MAX_LISTED {
            warnings.push(problem.clone());
        }
    };
    for (name, environment) in &manifest.environments {
        if let Err(problem) = &environment.settings {
            add(problem);
        }
        let is_touched =
            |app: &str| *name == order.environment && order.shas.iter().any(|(own, _)| own == app);
        let others = environment.app_names().filter(|app| !is_touched(app));
        let entry = |app: &str| match &environment.settings {
            Ok(_) => environment.entry(app),
            // It would be the problem of each.
            Err(_) => environment.own_entry(app),
        };
        others
            .filter_map(|app| entry(app)?.err())
            .for_each(&mut add);
    }
    warnings.extend(more_entries_warning("the manifest", bad));
    if let Some(environment) = manifest.environments.get(&order.environment) {
        let apps = order.shas.iter();
        warnings.extend(apps.flat_map(|(app, _)| after_independent(environment, app, order)));
    }
    warnings
}

/// The apps that an app goes after and that are never done.
fn after_independent(environment: &Environment, app: &str, order: &PublishRequest) -> Vec<Problem> {
    let RolloutMode::Coordinated(policy) = environment.rollout(app) else {
        return Vec::new();
    };
    let others = policy.after.iter();
    let independent = others.filter(|other| environment.rollout(other) == RolloutMode::Independent);
    let warning = |other: &String| {
        let name = &order.environment;
        Problem::new(format!("{name}/{app} goes after {other}, whose hosts go each for itself (`rollout: none`): nobody sees when they are done"))
            .hint(format!("take {other} out of the `after` of {app}, or give it a `rollout`"))
    };
    independent.map(warning).collect()
}
