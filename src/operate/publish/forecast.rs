//! What hosts will do about a publish, by the policy of the manifest and by what they last reported.

use std::time::Duration;

use serde::Serialize;

use crate::desired::{
    Amount, Canary, CanaryHosts, Environment, OnFailure, PublishSummary, RolloutMode,
};
use crate::fleet::{self, NodeRow, RecordCache};
use crate::ports::store::Store;

/// Records are read up to this number: each is a request.
const MAX_RECORDS: usize = 1000;

/// Hosts that are named.
const MAX_LISTED: usize = 10;

/// What hosts will do about the published sha of one app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Forecast {
    pub app: String,
    /// `None`: each host for itself, all at once.
    pub policy: Option<PolicyView>,
    /// `None`: it is unknown here.
    pub hosts: Option<HostForecast>,
}

/// A policy for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PolicyView {
    /// Of the hosts that serve.
    pub max_unavailable: Amount,
    pub per: Option<String>,
    /// Which hosts go first, and for how long they are watched; in words.
    pub canary: Option<String>,
    /// Apps whose rollout has to be done first.
    pub after: Vec<String>,
    pub max_failures: Amount,
    pub on_failure: OnFailure,
}

/// The hosts of an app, as they last reported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct HostForecast {
    /// Those that take the sha.
    pub taking: usize,
    /// Those whose records are too old: nobody waits for them.
    pub gone: Vec<String>,
    /// Those that an operator pinned to another release.
    pub pinned: Vec<String>,
    /// Those that an override of the manifest keeps at another sha.
    pub overridden: Vec<String>,
}

/// What hosts will do about each of these apps.
pub(crate) fn forecast(
    store: &dyn Store,
    environment_name: &str,
    published: &PublishSummary,
    apps: &[String],
    gone_after: Duration,
) -> Vec<Forecast> {
    let Some(environment) = published.desired.environments.get(environment_name) else {
        return Vec::new();
    };
    let rows = read_rows(store, environment_name, gone_after);
    // Hosts that share a folder of one machine ask nobody.
    let is_shared = !store.address().starts_with("dir:");
    let one = |app: &String| Forecast {
        app: app.clone(),
        policy: policy_view(environment, app).filter(|_| is_shared),
        hosts: rows
            .as_ref()
            .map(|(rows, is_gone)| hosts(environment, app, rows, is_gone.as_ref())),
    };
    apps.iter().map(one).collect()
}

type IsGone = Box<dyn Fn(&NodeRow) -> bool>;

/// The records; `None`: they are too many, or may not be read here, as often in CI.
fn read_rows(
    store: &dyn Store,
    environment: &str,
    gone_after: Duration,
) -> Option<(Vec<NodeRow>, IsGone)> {
    let count = fleet::count_records(store, environment).ok()?;
    if count > MAX_RECORDS {
        return None;
    }
    let mut cache = RecordCache::empty(store.address(), environment);
    let snapshot = fleet::take_snapshot(store, environment, gone_after, &mut cache).ok()?;
    if snapshot.unread.is_some() {
        return None;
    }
    let now = snapshot.now;
    let is_gone = move |row: &NodeRow| row.silent_for(now) > gone_after;
    Some((snapshot.rows, Box::new(is_gone)))
}

fn hosts(
    environment: &Environment,
    app: &str,
    rows: &[NodeRow],
    is_gone: &dyn Fn(&NodeRow) -> bool,
) -> HostForecast {
    let entry = environment.own_entry(app).and_then(Result::ok);
    let mut forecast = HostForecast::default();
    for row in rows {
        let Some(record) = row.record.apps.get(app) else {
            continue;
        };
        let is_overridden = entry.is_some_and(|entry| {
            let over = entry.override_for(&row.record.tags);
            over.is_some_and(|over| over.sha != entry.sha)
        });
        let list = match () {
            () if is_gone(row) => &mut forecast.gone,
            () if record.pinned => &mut forecast.pinned,
            () if is_overridden => &mut forecast.overridden,
            () => {
                forecast.taking += 1;
                continue;
            }
        };
        list.push(row.node.clone());
    }
    forecast
}

fn policy_view(environment: &Environment, app: &str) -> Option<PolicyView> {
    let RolloutMode::Coordinated(policy) = environment.rollout(app) else {
        return None;
    };
    Some(PolicyView {
        max_unavailable: policy.max_unavailable,
        per: policy.per,
        canary: policy.canary.as_ref().map(describe_canary),
        after: policy.after,
        max_failures: policy.max_failures,
        on_failure: policy.on_failure,
    })
}

/// `2 hosts, watched for 300 s`.
fn describe_canary(canary: &Canary) -> String {
    let hosts = match &canary.hosts {
        CanaryHosts::First(1) => "1 host".to_owned(),
        CanaryHosts::First(count) => format!("{count} hosts"),
        CanaryHosts::Matching(tags) => {
            let tags: Vec<String> = tags.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!("hosts with {}", tags.join(", "))
        }
    };
    match canary.bake.as_secs() {
        0 => hosts,
        seconds => format!("{hosts}, healthy for {}", describe_seconds(seconds)),
    }
}

/// `45 s`, `5 min`.
fn describe_seconds(seconds: u64) -> String {
    match seconds % 60 {
        0 => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

impl Forecast {
    /// What will happen, a line each.
    pub(crate) fn describe(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let count = match self.hosts.as_ref().map(|hosts| hosts.taking) {
            None => "its hosts take it".to_owned(),
            Some(0) => "no host that runs it is on record yet".to_owned(),
            Some(1) => "1 host takes it".to_owned(),
            Some(count) => format!("{count} hosts take it"),
        };
        match &self.policy {
            None if count.starts_with("no ") => lines.push(count),
            None => lines.push(format!("{count}, each for itself")),
            Some(policy) => {
                let per = policy.per.as_ref();
                let per = per.map_or(String::new(), |tag| format!(", of one {tag} at a time"));
                let most = policy.max_unavailable;
                let first = policy.canary.as_ref();
                let first = first.map_or(String::new(), |canary| format!("{canary} first, then "));
                let is_alone = self.hosts.as_ref().is_some_and(|hosts| hosts.taking == 1);
                match is_alone {
                    true => lines.push(count),
                    false => lines.push(format!("{count}: {first}{most} at a time{per}")),
                }
                if !policy.after.is_empty() {
                    lines.push(format!("once {} is done", policy.after.join(" and ")));
                }
                let failed = match policy.max_failures {
                    Amount::Count(1) => "a host that fails".to_owned(),
                    most => format!("{most} hosts that fail"),
                };
                let verb = match (policy.max_failures, policy.on_failure) {
                    (Amount::Count(1), OnFailure::Halt) => "stops it",
                    (Amount::Count(1), OnFailure::Rollback) => "takes all back",
                    (_, OnFailure::Halt) => "stop it",
                    (_, OnFailure::Rollback) => "take all back",
                };
                lines.push(format!("{failed} {verb}"));
            }
        }
        let hosts = self.hosts.iter();
        for hosts in hosts {
            for (names, why) in [
                (&hosts.pinned, "pinned to another release, and stays there"),
                (&hosts.overridden, "at another sha by an override"),
                (&hosts.gone, "not heard of, and not waited for"),
            ] {
                if !names.is_empty() {
                    lines.push(format!("{}: {why}", list(names)));
                }
            }
        }
        lines
    }
}

fn list(names: &[String]) -> String {
    let shown = &names[..names.len().min(MAX_LISTED)];
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
