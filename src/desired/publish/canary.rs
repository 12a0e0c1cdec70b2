//! Whether some host of the fleet can be the canary of a published sha.

use std::collections::{BTreeMap, BTreeSet};

use super::reports::{FleetReports, ReportedHost};
use crate::desired::edit::{ManifestEdit, PublishRequest};
use crate::desired::environment::SETTINGS_KEY;
use crate::desired::{CanaryHosts, MAX_LISTED};
use crate::problem::{Problem, nearest};
use crate::yaml::{ParseLimits, parse};

/// Checks that for each published app whose canaries are chosen by tags some host can be one. The hosts are read only
/// if there is such an app. Adds a warning if the hosts are not known: CI may publish without permission to read
/// what they report.
pub(super) fn check_canaries(
    (manifest, current): (&str, &[u8]),
    edit: &mut ManifestEdit,
    order: &PublishRequest,
    fleet: &mut dyn FleetReports,
) -> Result<(), Problem> {
    let Some(environment) = edit.manifest.environments.get(&order.environment) else {
        return Ok(());
    };
    let matches = edit.changes.iter().filter_map(|change| {
        let mode = environment.rollout(&change.app);
        let canary = mode.policy()?.canary.clone()?;
        matches!(canary.hosts, CanaryHosts::Matching(_)).then_some((&change.app, canary.hosts))
    });
    let matches: Vec<(&String, CanaryHosts)> = matches.collect();
    if matches.is_empty() {
        return Ok(());
    }
    let reported = match fleet.hosts() {
        Ok(reported) => reported,
        Err(error) => {
            edit.warnings.push(Problem::new(format!(
                "it is unknown whether some host can be the canary: {error}"
            )));
            return Ok(());
        }
    };
    for (app, canaries) in matches {
        let runs_app = |host: &&ReportedHost| host.apps.contains(app);
        let hosts: Vec<&ReportedHost> = reported.hosts.iter().filter(runs_app).collect();
        // An app may be published before its first host is there.
        if hosts.is_empty() || hosts.iter().any(|host| canaries.admits(&host.tags)) {
            continue;
        }
        let CanaryHosts::Matching(wanted) = &canaries else {
            continue;
        };
        let pairs: Vec<String> = wanted.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let problem = Problem::new(format!(
            "no host that runs {app} has the tags {} of its canary, so no host would ever take a new sha",
            pairs.join(", ")
        ))
        .hint(tags_hint(wanted, &hosts));
        if reported.is_incomplete {
            edit.warnings.push(problem);
            continue;
        }
        return Err(with_location(
            problem,
            manifest,
            current,
            &order.environment,
            app,
        ));
    }
    Ok(())
}

/// `their zone is one of a, b; none has a tag zon`.
fn tags_hint(wanted: &BTreeMap<String, String>, hosts: &[&ReportedHost]) -> String {
    let names: BTreeSet<&str> = hosts
        .iter()
        .flat_map(|host| host.tags.keys().map(String::as_str))
        .collect();
    let part = |tag: &String| {
        let values = hosts.iter().filter_map(|host| host.tags.get(tag));
        let values: BTreeSet<&str> = values.map(String::as_str).collect();
        if !values.is_empty() {
            return format!("their `{tag}` is {}", list(values));
        }
        match (nearest(tag, names.iter().copied()), names.is_empty()) {
            (Some(near), _) => format!("none has a tag `{tag}`: did you mean `{near}`?"),
            (None, true) => "they have no tags".to_owned(),
            (None, false) => format!("none has a tag `{tag}`: they have {}", list(names.clone())),
        }
    };
    let mut parts: Vec<String> = wanted.keys().map(part).collect();
    parts.dedup();
    parts.join("; ")
}

/// `a, b, c and 3 more`.
fn list(words: BTreeSet<&str>) -> String {
    let shown: Vec<&str> = words.iter().take(MAX_LISTED).copied().collect();
    match words.len().checked_sub(MAX_LISTED).filter(|more| *more > 0) {
        None => shown.join(", "),
        Some(more) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Adds the place of the canary: in the app's own entry, or in the environment's settings.
fn with_location(
    problem: Problem,
    manifest: &str,
    body: &[u8],
    environment: &str,
    app: &str,
) -> Problem {
    let Ok(tree) = parse(manifest, body, ParseLimits::default()) else {
        return problem;
    };
    for key in [app, SETTINGS_KEY] {
        let path = [environment, key, "rollout", "canary"];
        let found = path.iter().try_fold(&tree, |node, part| node.get(part));
        if let Some(canary) = found {
            let field = format!("{key}.rollout.canary.match");
            return problem
                .at(&canary.get("match").unwrap_or(canary).at)
                .field(field);
        }
    }
    problem
}
