//! What the hosts of an environment serve, proven there, so that another environment can take it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::desired::{AppEntry, Environment, Sha};
use crate::fleet::{FleetView, ServingState};
use crate::operate::CommandError;
use crate::operate::fleet::FleetWatch;
use crate::operate::manifest::{check_new_names, find_environment, read_manifest};
use crate::ports::store::Store;
use crate::problem::Problem;
use crate::settings::{FleetSettings, Signers};

/// What one environment gives to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ServedApp {
    pub app: String,
    pub sha: Sha,
    /// The ref that it came from, for people, if the manifest still wants it.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// How many live hosts serve it.
    pub hosts: usize,
    /// What the environment wants meanwhile, if it is another sha.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Sha>,
    /// What the other environment wants.
    #[serde(skip)]
    pub replaced: Option<Sha>,
}

/// The apps that all live hosts of `from` serve at one sha. `apps`: which ones; empty: all that `from` and `to` have. With
/// signers, one of them has to have signed `from`, too.
pub(crate) fn served_apps(
    store: &dyn Store,
    manifest_key: &str,
    fleet: &FleetSettings,
    (from, to): (&str, &str),
    apps: &[String],
    signers: Option<&Signers>,
) -> Result<Vec<ServedApp>, CommandError> {
    if from == to {
        return Err(CommandError::Usage(Problem::new(format!(
            "{from} cannot be promoted to itself"
        ))));
    }
    let manifest = read_manifest(store, manifest_key, from, signers)?;
    let source = find_environment(&manifest, from, None)?;
    for app in apps {
        find_environment(&manifest, from, Some(app))?;
    }
    let mut names: Vec<&str> = apps.iter().map(String::as_str).collect();
    let targets = read_manifest(store, manifest_key, to, signers);
    let targets = match names.is_empty() {
        true => Some(targets?),
        // It may be new.
        false => targets.ok(),
    };
    let target = targets
        .as_ref()
        .and_then(|known| known.environments.get(to));
    if names.is_empty() {
        let targets = targets.as_ref().unwrap_or(&manifest);
        let target = find_environment(targets, to, None)?;
        names = source
            .app_names()
            .filter(|app| target.has_app(app))
            .collect();
    } else {
        let create = "publish it with `trueup publish ENV APP=SHA --create`";
        // The apps are known where they come from.
        check_new_names(&manifest, to, &[], create)?;
    }
    if names.is_empty() {
        return Err(CommandError::Usage(
            Problem::new(format!("{from} and {to} have no app in common"))
                .hint("name the apps, such as `trueup promote staging production shop`"),
        ));
    }
    let mut watch = FleetWatch::new(store, from, manifest_key, fleet);
    watch.is_own_environment = false;
    let (view, _) = watch.observe()?;
    let served = names.iter().map(|app| {
        let replaced = target.and_then(|target| target.own_entry(app)?.ok());
        Ok(ServedApp {
            replaced: replaced.map(|entry| entry.sha.clone()),
            ..served_app(app, source, &view)?
        })
    });
    served.collect()
}

fn served_app(
    app: &str,
    environment: &Environment,
    view: &FleetView,
) -> Result<ServedApp, CommandError> {
    let from = &view.environment;
    let entry = environment.entry(app);
    let entry = entry
        .transpose()
        .map_err(|problem| CommandError::input(problem.clone()))?;
    let live = view.nodes.iter().filter(|node| !node.gone);
    let apps = live.flat_map(|node| node.apps.iter().map(move |app| (node, app)));
    let mut hosts: BTreeMap<&Sha, usize> = BTreeMap::new();
    let mut unproven: Vec<&str> = Vec::new();
    for (node, known) in apps.filter(|(_, known)| known.app == app) {
        match (&known.actual, known.state) {
            (Some(actual), ServingState::Serving) => *hosts.entry(actual).or_default() += 1,
            _ => unproven.push(&node.node),
        }
    }
    let refuse = |why: String, hint: &str| {
        CommandError::Failed(Problem::new(format!("{from}/{app}: {why}")).hint(hint))
    };
    let wait =
        format!("`trueup rollout status {from} {app} --wait` waits for the end of its rollout");
    if !unproven.is_empty() {
        let names: Vec<&str> = unproven.iter().take(5).copied().collect();
        let why = format!(
            "not proven on {} of its hosts: {}",
            unproven.len(),
            names.join(", ")
        );
        return Err(refuse(why, &wait));
    }
    let mut found = hosts.into_iter();
    let (Some((sha, count)), None) = (found.next(), found.next()) else {
        let shas: BTreeSet<&str> = view
            .nodes
            .iter()
            .filter(|node| !node.gone)
            .flat_map(|node| &node.apps)
            .filter(|known| known.app == app)
            .filter_map(|known| known.actual.as_ref().map(Sha::short))
            .collect();
        let shas: Vec<&str> = shas.into_iter().collect();
        return Err(match shas.is_empty() {
            true => refuse(
                "no live host serves it".into(),
                &format!("`trueup fleet --env {from}` shows what is there"),
            ),
            false => refuse(format!("its hosts serve {}", shas.join(" and ")), &wait),
        });
    };
    // Who may write a record could name any sha: it has to be one that the manifest named.
    if !is_named(entry, sha) {
        let why = format!(
            "its hosts report {}, which the manifest of {from} does not name",
            sha.short()
        );
        return Err(refuse(
            why,
            &format!("publish the sha itself: `trueup publish ENV {app}={sha}`"),
        ));
    }
    let wanted = entry
        .map(|entry| &entry.sha)
        .filter(|wanted| *wanted != sha);
    Ok(ServedApp {
        app: app.to_owned(),
        sha: sha.clone(),
        reference: entry
            .filter(|_| wanted.is_none())
            .and_then(|entry| entry.reference.clone()),
        hosts: count,
        wanted: wanted.cloned(),
        replaced: None,
    })
}

/// Whether the manifest wants, or wanted before, this sha of an app.
fn is_named(entry: Option<&AppEntry>, sha: &Sha) -> bool {
    entry.is_some_and(|entry| {
        entry.wanted_shas().contains(sha) || entry.previous.as_ref() == Some(sha)
    })
}

#[cfg(test)]
mod tests;
