//! The fleet as operators see it: for each app on each node the wanted and the actual release, and the
//! reason for a difference.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::{AppRecord, NodeRow, ServingState, Snapshot, sanitize_line};
use crate::desired::{Manifest, Sha};
use crate::exit::Exit;

#[derive(Debug, Serialize)]
pub(crate) struct FleetView {
    pub environment: String,
    /// The worst outcome of all nodes and problems.
    pub outcome: Exit,
    pub generation: Option<u64>,
    pub nodes: Vec<NodeView>,
    /// Problems of records or of the manifest, one line each.
    pub problems: Vec<String>,
    /// The outcome of reading: some records could not be read, or are invalid.
    #[serde(skip)]
    read_outcome: Exit,
}

#[derive(Debug, Serialize)]
pub(crate) struct NodeView {
    pub node: String,
    /// Time of the last heartbeat, by the store's clock.
    pub seen: Timestamp,
    /// The last heartbeat is older than `gone_after`.
    pub gone: bool,
    pub outcome: Exit,
    /// Why the node is not converged, unless an app shows the same reason.
    pub why: Option<String>,
    pub roles: Vec<String>,
    pub tags: std::collections::BTreeMap<String, String>,
    pub addresses: Vec<std::net::IpAddr>,
    pub ports: std::collections::BTreeMap<String, u16>,
    pub agent: String,
    pub machine_id: Option<String>,
    pub apps: Vec<AppView>,
}

/// One app on one node.
#[derive(Debug, Serialize)]
pub(crate) struct AppView {
    pub app: String,
    /// By the current manifest.
    pub wanted: Option<Sha>,
    pub actual: Option<Sha>,
    pub state: ServingState,
    /// When `current` was last switched, by the node's own clock.
    pub since: Option<Timestamp>,
    pub outcome: Exit,
    /// Why it is not as wanted.
    pub why: Option<String>,
}

impl FleetView {
    /// Keeps only this app.
    pub(crate) fn retain_app(&mut self, app: &str) {
        for node in &mut self.nodes {
            node.apps.retain(|known| known.app == app);
            node.why = None;
            let outcomes = node.apps.iter().map(|app| app.outcome);
            node.outcome = outcomes.fold(Exit::Converged, Exit::merge);
        }
        self.nodes.retain(|node| !node.apps.is_empty());
        let outcomes = self.nodes.iter().map(|node| node.outcome);
        self.outcome = outcomes.fold(self.read_outcome, Exit::merge);
    }

    /// Reports that nothing matches the request.
    pub(crate) fn add_not_found(&mut self, why: String) {
        self.problems.push(why);
        self.outcome = self.outcome.merge(Exit::Failed);
    }
}

/// Merges the records with the manifest. Without a manifest (it could not be read), the wanted releases in
/// the records count.
pub(crate) fn fleet_view(
    environment: &str,
    snapshot: Snapshot,
    manifest: Option<&Manifest>,
    gone_after: Duration,
) -> FleetView {
    let now = snapshot.now;
    let nodes = snapshot.rows.into_iter();
    let nodes: Vec<NodeView> = nodes
        .map(|row| node_view(row, manifest, now, gone_after))
        .collect();
    let worst = nodes.iter().map(|node| node.outcome);
    let least = match snapshot.unread.is_some() || snapshot.invalid > 0 {
        true => Exit::Stale,
        false => Exit::Converged,
    };
    FleetView {
        read_outcome: least,
        environment: environment.to_owned(),
        outcome: worst.fold(least, Exit::merge),
        generation: manifest.and_then(|manifest| manifest.generation),
        nodes,
        problems: snapshot.problems,
    }
}

fn node_view(
    row: NodeRow,
    manifest: Option<&Manifest>,
    now: Timestamp,
    gone_after: Duration,
) -> NodeView {
    let gone = row.silent_for(now) > gone_after;
    let record = row.record;
    let entries = manifest.and_then(|manifest| manifest.environments.get(&record.environment));
    let apps = record.apps.iter().map(|(name, app)| {
        let entry = entries.and_then(|apps| apps.get(name)?.as_ref().ok());
        let wanted = entry.map(|entry| entry.for_node(&record.tags, now));
        let sha = match (&wanted, manifest) {
            (Some(wanted), _) => Some(wanted.sha.clone()),
            (None, Some(_)) => None,
            (None, None) => app.wanted.clone(),
        };
        let held = wanted.and_then(|wanted| wanted.hold).map(|hold| {
            let until = hold.until.map_or(String::new(), |until| {
                format!(" until {}", until.strftime("%F %H:%M UTC"))
            });
            format!("held by {}{until}: {}", hold.by, hold.reason)
        });
        let bad = entries.and_then(|apps| apps.get(name)?.as_ref().err());
        let (outcome, why) = match (gone, bad) {
            (true, _) => (
                Exit::Stale,
                Some("stopped, or cut off from the store".into()),
            ),
            (false, Some(problem)) => {
                let why = problem.to_string();
                let first = why.lines().next().unwrap_or_default();
                (Exit::BadInput, Some(sanitize_line(first)))
            }
            (false, None) => app_outcome(app, sha.as_ref(), held, record.last_pass.outcome),
        };
        AppView {
            app: name.clone(),
            actual: app.actual.clone(),
            state: app.state,
            since: app.since,
            wanted: sha,
            outcome,
            why,
        }
    });
    let apps: Vec<AppView> = apps.collect();
    // The node's reason may repeat that of one of its apps, which has its own row.
    let last = &record.last_pass;
    let reason = last.why.as_deref().unwrap_or_default();
    let of_an_app = || record.apps.values().filter_map(|app| app.why.as_deref());
    let waits_for_it = of_an_app().any(|why| reason.contains(why));
    let already_shown = of_an_app().any(|why| reason.ends_with(why));
    let own = match gone {
        true => Exit::Stale,
        // The pass waited for an app whose row now shows the current outcome by the manifest.
        false if last.outcome == Exit::Waiting && waits_for_it => Exit::Converged,
        false => last.outcome,
    };
    NodeView {
        outcome: apps.iter().map(|app| app.outcome).fold(own, Exit::merge),
        why: match gone {
            true if apps.is_empty() => Some("stopped, or cut off from the store".into()),
            true => None,
            false => record.last_pass.why.clone().filter(|_| !already_shown),
        },
        node: row.node,
        seen: row.last_seen,
        gone,
        roles: record.roles.clone(),
        tags: record.tags.clone(),
        addresses: record.addresses.clone(),
        ports: record.ports.clone(),
        agent: record.agent.clone(),
        machine_id: record.machine_id.clone(),
        apps,
    }
}

/// The outcome of an app on a live node, and the reason if it is not converged.
fn app_outcome(
    app: &AppRecord,
    wanted: Option<&Sha>,
    held: Option<String>,
    last: Exit,
) -> (Exit, Option<String>) {
    let Some(wanted) = wanted else {
        return match app.actual {
            Some(_) => (Exit::Converged, Some("not in the manifest".into())),
            None => (Exit::Converged, Some("nothing to deploy yet".into())),
        };
    };
    let there = app.actual.as_ref() == Some(wanted);
    let newer = app.wanted.as_ref() != Some(wanted);
    if there && app.state == ServingState::Serving {
        // The wanted release is active and proven, but the app may still not be converged: an operator may
        // have stopped its service, or the service may owe a restart.
        let left = app.outcome.filter(|_| !newer);
        return (left.unwrap_or(Exit::Converged), app.why.clone());
    }
    if let Some(held) = held {
        return (Exit::Waiting, Some(held));
    }
    let pending = |why: &str| (Exit::Pending, Some(why.to_owned()));
    match (&app.why, app.state) {
        (why, _) if newer => {
            let before = why.as_ref().map(|why| format!("; before: {why}"));
            pending(&format!("not picked up yet{}", before.unwrap_or_default()))
        }
        (why, ServingState::Bad) => (
            Exit::RolledBack,
            why.clone().or(Some("it failed its gate".into())),
        ),
        (Some(why), _) => (last.merge(Exit::Pending), Some(why.clone())),
        (None, ServingState::OnTrial) => pending("on trial"),
        (None, _) => pending("not deployed yet"),
    }
}
