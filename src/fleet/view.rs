//! The fleet as operators see it: for each app on each node the wanted and the actual release, and the
//! reason for a difference.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::ec2::InstanceView;
use super::rollout::AppRollout;
use super::{AppRecord, LastPass, NodeRecord, NodeRow, ServingState, Snapshot, sanitize_line};
use crate::desired::{Hold, Manifest, Sha};
use crate::exit::Exit;

/// Why a node is silent.
const GONE: &str = "stopped, or cut off from the store";

/// Whether a node still sends heartbeats.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Liveness {
    Alive,
    /// Two heartbeats are missing, for this many minutes: its timer may be off. Its peers still count it.
    Silent(u64),
    Gone,
}

impl Liveness {
    fn new(row: &NodeRow, now: Timestamp, gone_after: Duration, heartbeat: Duration) -> Liveness {
        let silent = row.silent_for(now);
        let heartbeat = row.record.heartbeat().unwrap_or(heartbeat);
        // What it is at may take long, and is in the record.
        let is_busy = row.record.last_pass.outcome == Exit::Pending;
        match silent {
            _ if silent > gone_after => Liveness::Gone,
            _ if silent > heartbeat.saturating_mul(2) && !is_busy => {
                Liveness::Silent(silent.as_secs() / 60)
            }
            _ => Liveness::Alive,
        }
    }

    /// Why the node counts as stale.
    fn reason(self) -> Option<String> {
        match self {
            Liveness::Alive => None,
            Liveness::Silent(minutes) => Some(format!(
                "no heartbeat for {minutes} min: its passes have stopped, or it is cut off from the store"
            )),
            Liveness::Gone => Some(GONE.into()),
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct FleetView {
    pub environment: String,
    /// The worst outcome of all nodes and problems.
    pub outcome: Exit,
    pub generation: Option<u64>,
    pub nodes: Vec<NodeView>,
    /// Instances of the cloud that the settings find by their tags, and that publish no record.
    pub instances: Vec<InstanceView>,
    /// How the hosts take up what is wanted of each app that they run.
    pub rollouts: Vec<AppRollout>,
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
    #[serde(rename = "seen")]
    pub last_seen: Timestamp,
    /// The last heartbeat is older than `gone_after`.
    pub gone: bool,
    /// Two heartbeats are missing: no pass runs there, or it is cut off.
    pub silent: bool,
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
        let runs = |instance: &InstanceView| instance.apps.iter().any(|known| known == app);
        self.instances.retain(runs);
        let outcomes = self.nodes.iter().map(|node| node.outcome);
        self.outcome = outcomes.fold(self.read_outcome, Exit::merge);
    }

    /// Reports that the cloud gave no list of its instances.
    pub(crate) fn add_unlisted_instances(&mut self, why: &str) {
        self.problems.push(why.to_owned());
        self.read_outcome = self.read_outcome.merge(Exit::Stale);
        self.outcome = self.outcome.merge(Exit::Stale);
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
    heartbeat: Duration,
) -> FleetView {
    let now = snapshot.now;
    let rows = snapshot.rows.into_iter();
    let nodes: Vec<NodeView> = rows
        .map(|row| {
            let liveness = Liveness::new(&row, now, gone_after, heartbeat);
            node_view(row, manifest, now, liveness)
        })
        .collect();
    let read_outcome = match snapshot.unread.is_some() || snapshot.invalid > 0 {
        true => Exit::Stale,
        false => Exit::Converged,
    };
    let outcomes = nodes.iter().map(|node| node.outcome);
    FleetView {
        read_outcome,
        environment: environment.to_owned(),
        outcome: outcomes.fold(read_outcome, Exit::merge),
        generation: manifest.and_then(|manifest| manifest.generation_of(environment)),
        nodes,
        instances: Vec::new(),
        rollouts: Vec::new(),
        problems: snapshot.problems,
    }
}

fn node_view(
    row: NodeRow,
    manifest: Option<&Manifest>,
    now: Timestamp,
    liveness: Liveness,
) -> NodeView {
    let record = row.record;
    let apps = record.apps.iter().map(|(name, app)| {
        let desired = match manifest {
            Some(manifest) => DesiredRelease::from_manifest(manifest, &record, name, now),
            None => DesiredRelease::from_record(app),
        };
        app_view(name, app, desired, &record.last_pass, liveness)
    });
    let apps: Vec<AppView> = apps.collect();
    let is_told = apps.iter().any(|app| app.outcome == Exit::Stale);
    let (own_outcome, why) = own_outcome(&record, liveness, is_told);
    let outcomes = apps.iter().map(|app| app.outcome);
    NodeView {
        outcome: outcomes.fold(own_outcome, Exit::merge),
        why,
        node: row.node,
        last_seen: row.last_seen,
        gone: liveness == Liveness::Gone,
        silent: matches!(liveness, Liveness::Silent(_)),
        roles: record.roles.clone(),
        tags: record.tags.clone(),
        addresses: record.addresses.clone(),
        ports: record.ports.clone(),
        agent: record.agent.clone(),
        machine_id: record.machine_id.clone(),
        apps,
    }
}

/// The release of an app that a node should have.
#[derive(Default)]
struct DesiredRelease {
    sha: Option<Sha>,
    /// The hold in force.
    held: Option<String>,
    /// Why the app's entry in the manifest is invalid, one line.
    problem: Option<String>,
}

impl DesiredRelease {
    fn from_manifest(
        manifest: &Manifest,
        record: &NodeRecord,
        app: &str,
        now: Timestamp,
    ) -> DesiredRelease {
        let environment = manifest.environments.get(&record.environment);
        match environment.and_then(|known| known.desired_app(app, &record.tags, now)) {
            Some(Ok(desired)) => DesiredRelease {
                held: desired
                    .hold
                    .filter(|hold| hold.blocks(&desired.sha))
                    .as_ref()
                    .map(describe_hold),
                sha: Some(desired.sha),
                problem: None,
            },
            Some(Err(problem)) => {
                let problem = problem.to_string();
                let first_line = problem.lines().next().unwrap_or_default();
                DesiredRelease {
                    problem: Some(sanitize_line(first_line)),
                    ..DesiredRelease::default()
                }
            }
            None => DesiredRelease::default(),
        }
    }

    fn from_record(app: &AppRecord) -> DesiredRelease {
        DesiredRelease {
            sha: app.wanted.clone(),
            ..DesiredRelease::default()
        }
    }
}

fn describe_hold(hold: &Hold) -> String {
    let until = hold.until.map_or(String::new(), |until| {
        format!(" until {}", until.strftime("%F %H:%M UTC"))
    });
    let at = hold.sha.as_ref();
    let at = at.map_or(String::new(), |sha| format!(" at {}", sha.short()));
    format!("held{at} by {}{until}: {}", hold.by, hold.reason)
}

fn app_view(
    name: &str,
    app: &AppRecord,
    desired: DesiredRelease,
    last_pass: &LastPass,
    liveness: Liveness,
) -> AppView {
    let (outcome, why) = match desired.problem {
        _ if liveness == Liveness::Gone => (Exit::Stale, liveness.reason()),
        Some(problem) => (Exit::BadInput, Some(problem)),
        None => app_outcome(app, desired.sha.as_ref(), desired.held, last_pass.outcome),
    };
    // What is wrong besides is still what was seen last.
    let (outcome, why) = match liveness {
        Liveness::Silent(_) if outcome < Exit::Stale => (Exit::Stale, liveness.reason()),
        _ => (outcome, why),
    };
    AppView {
        app: name.to_owned(),
        actual: app.actual.clone(),
        state: app.state,
        since: app.since,
        wanted: desired.sha,
        outcome,
        why,
    }
}

/// The outcome of a node and its reason, besides those of its apps, which have their own rows. `is_told`: one of them says
/// that the node is silent.
fn own_outcome(record: &NodeRecord, liveness: Liveness, is_told: bool) -> (Exit, Option<String>) {
    if liveness == Liveness::Gone {
        return (Exit::Stale, liveness.reason().filter(|_| !is_told));
    }
    let LastPass { outcome, why, .. } = &record.last_pass;
    let reason = why.as_deref().unwrap_or_default();
    let app_reasons = || record.apps.values().filter_map(|app| app.why.as_deref());
    let waits_for_app = app_reasons().any(|why| reason.contains(why));
    let already_shown = app_reasons().any(|why| reason.ends_with(why));
    let outcome = match outcome {
        // The row of the app shows the current outcome by the manifest.
        Exit::Waiting if waits_for_app => Exit::Converged,
        outcome => *outcome,
    };
    let why = why.clone().filter(|_| !already_shown);
    match liveness.reason() {
        Some(silent) if outcome < Exit::Stale => (Exit::Stale, Some(silent).filter(|_| !is_told)),
        Some(silent) => (outcome, why.map(|why| format!("{why}; {silent}"))),
        None => (outcome, why),
    }
}

/// The outcome of an app on a live node, and the reason if it is not converged.
fn app_outcome(
    app: &AppRecord,
    wanted: Option<&Sha>,
    held: Option<String>,
    last_pass: Exit,
) -> (Exit, Option<String>) {
    let Some(wanted) = wanted else {
        return match app.actual {
            Some(_) => (Exit::Converged, Some("not in the manifest".into())),
            None => (Exit::Converged, Some("nothing to deploy yet".into())),
        };
    };
    let is_active = app.actual.as_ref() == Some(wanted);
    let changed_since = app.wanted.as_ref() != Some(wanted);
    if is_active && app.state == ServingState::Serving {
        // The wanted release is active and proven, but the app may still not be converged: an operator may
        // have stopped its service, or the service may owe a restart.
        let outcome = app.outcome.filter(|_| !changed_since);
        return (outcome.unwrap_or(Exit::Converged), app.why.clone());
    }
    if let Some(held) = held {
        return (Exit::Waiting, Some(held));
    }
    let pending = |why: &str| (Exit::Pending, Some(why.to_owned()));
    match (&app.why, app.state) {
        (why, _) if changed_since => {
            let before = why.as_ref().map(|why| format!("; before: {why}"));
            pending(&format!("not picked up yet{}", before.unwrap_or_default()))
        }
        (why, ServingState::Bad) => (
            Exit::RolledBack,
            why.clone().or(Some("it failed its gate".into())),
        ),
        (Some(why), _) => (
            app.outcome.unwrap_or(last_pass).merge(Exit::Pending),
            Some(why.clone()),
        ),
        (None, ServingState::OnTrial) => pending("on trial"),
        (None, _) => pending("not deployed yet"),
    }
}
