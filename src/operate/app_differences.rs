//! What the hosts of an environment serve, compared with what the manifest wants.

use std::collections::BTreeMap;

use serde::Serialize;

use super::commits::{CommitRange, Repositories};
use super::manifest::{find_environment, read_manifest};
use crate::desired::Sha;
use crate::exit::Exit;
use crate::fleet::{self, RecordCache, fleet_view};
use crate::operate::CommandError;
use crate::pass::PassError;
use crate::ports::git::GitError;
use crate::ports::store::Store;
use crate::settings::FleetSettings;

/// What hosts serve, and what they are to serve.
#[derive(Debug, Serialize)]
pub(crate) struct AppDifferences {
    pub environment: String,
    /// `pending` where something differs; `stale` if not all is known.
    pub outcome: Exit,
    pub apps: Vec<AppDifference>,
    /// What could not be read, a line each.
    pub problems: Vec<String>,
}

/// Hosts of one app that serve the same sha, and are to serve the same.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct AppDifference {
    pub app: String,
    /// `None`: they serve none yet.
    pub served: Option<Sha>,
    /// `None`: the manifest wants none any more.
    pub wanted: Option<Sha>,
    pub nodes: Vec<String>,
    /// `None`: one of both is missing.
    pub range: Option<CommitRange>,
}

/// The store, and what of it is asked for.
pub(crate) struct DifferenceTarget<'a> {
    pub store: &'a dyn Store,
    /// The manifest's key.
    pub manifest_key: &'a str,
    pub environment: &'a str,
    pub fleet: &'a FleetSettings,
    /// Only this app.
    pub app: Option<&'a str>,
}

/// Compares what each host that is not gone serves with what it is to serve.
pub(crate) fn app_differences(
    target: &DifferenceTarget<'_>,
    repositories: &mut Repositories<'_>,
) -> Result<AppDifferences, CommandError> {
    let manifest = read_manifest(target.store, target.manifest_key, target.environment, None)?;
    let environment = find_environment(&manifest, target.environment, target.app)?;
    let gone_after = target.fleet.gone_after();
    let mut cache = RecordCache::empty(target.store.address(), target.environment);
    let snapshot = fleet::take_snapshot(target.store, target.environment, gone_after, &mut cache)
        .map_err(PassError::Store)?;
    let is_incomplete = snapshot.unread.is_some() || snapshot.invalid > 0;
    let unread = snapshot.unread.as_ref().map(ToString::to_string);
    let heartbeat = target.fleet.heartbeat();
    let view = fleet_view(
        target.environment,
        snapshot,
        Some(&manifest),
        gone_after,
        heartbeat,
    );
    let mut groups: BTreeMap<(String, Option<Sha>, Option<Sha>), Vec<String>> = BTreeMap::new();
    for node in view.nodes.iter().filter(|node| !node.gone) {
        let apps = node.apps.iter();
        for app in apps.filter(|app| target.app.is_none_or(|only| only == app.app)) {
            let key = (app.app.clone(), app.actual.clone(), app.wanted.clone());
            groups.entry(key).or_default().push(node.node.clone());
        }
    }
    let settings = environment.settings.as_ref().ok();
    let mut problems = view.problems;
    problems.extend(unread);
    let mut open = BTreeMap::new();
    let mut apps = Vec::new();
    for ((app, served, wanted), nodes) in groups {
        let range = match (&served, &wanted) {
            (Some(from), Some(to)) if from != to => {
                let commits = open
                    .entry(app.clone())
                    .or_insert_with(|| repositories.open(&app, settings));
                Some(match commits {
                    Ok(Some(commits)) => commits
                        .commits_between(from, to)
                        .unwrap_or_else(|error| CommitRange::unknown(from, to, error.summary())),
                    Ok(None) => CommitRange::unknown(
                        from,
                        to,
                        format!("no repository of {app} is known: `--repo {app}=URL` names it"),
                    ),
                    // The shas say something as well.
                    Err(error) => CommitRange::unknown(from, to, first_line(error)),
                })
            }
            (Some(from), Some(to)) => Some(CommitRange::same(from, to)),
            _ => None,
        };
        apps.push(AppDifference {
            app,
            served,
            wanted,
            nodes,
            range,
        });
    }
    let mut is_unserved = false;
    for app in environment.app_names() {
        let is_asked = target.app.is_none_or(|only| only == app);
        if is_asked && !apps.iter().any(|known| known.app == app) {
            problems.push(format!("no host reports that it runs {app}"));
            is_unserved = true;
        }
    }
    let differs = is_unserved || apps.iter().any(|app| app.served != app.wanted);
    let outcome = match (differs, is_incomplete) {
        (_, true) => Exit::Stale,
        (true, false) => Exit::Pending,
        (false, false) => Exit::Converged,
    };
    Ok(AppDifferences {
        environment: target.environment.to_owned(),
        outcome,
        apps,
        problems,
    })
}

fn first_line(error: &GitError) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}
