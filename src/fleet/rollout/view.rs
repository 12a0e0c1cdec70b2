//! A rollout as people see it.

use jiff::Timestamp;
use serde::Serialize;

use super::decide::Obstacle;
use super::entry::{Canary, Entry, EntryState, HaltCause, HaltRecord, HostFailure};
use super::local_failure::LocalFailure;
use super::object::RolloutError;
use super::once::OnceClaim;
use super::outcome::end_if_done;
use super::permission::unfinished_app;
use super::register::{Act, Register};
use super::restarts::RestartProgress;
use super::slot::SlotHolder;
use super::store::RolloutStore;
use crate::desired::{DeployNote, Sha};
use crate::exit::Exit;

/// The rollout of a wanted sha.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RolloutView {
    pub environment: String,
    pub app: String,
    /// The first sha that the manifest wants.
    pub wanted: Option<Sha>,
    /// `None`: no host has begun it.
    pub state: Option<EntryState>,
    pub outcome: Exit,
    pub generation: Option<u64>,
    pub opened: Option<Timestamp>,
    pub opened_by: Option<String>,
    /// Hosts when they were counted.
    pub hosts: Option<u32>,
    /// Nodes that are proven at the sha.
    pub proven: Vec<String>,
    pub slots: u32,
    pub holders: Vec<HeldSlot>,
    pub canaries: Vec<Canary>,
    /// Of the canaries that have not passed, those that are proven.
    pub bakes: Vec<Bake>,
    pub failures: Vec<HostFailure>,
    /// Hosts that cannot take the sha for reasons of their own, the first twenty that said so.
    pub local_failures: Vec<LocalFailure>,
    /// While some hosts cannot take the sha: those that are deploying it, the last twenty that began.
    pub at_work: Vec<String>,
    pub halt: Option<HaltRecord>,
    pub claim: Option<OnceClaim>,
    /// The last rolling restart that the manifest asks for.
    pub restart: Option<RestartProgress>,
    /// Who froze the app in the manifest, until when and why.
    pub hold: Option<String>,
    /// Tasks for people that belong to the deployment.
    pub notes: Vec<DeployNote>,
    /// What everybody waits for, and what mends it.
    pub waits_for: Option<String>,
    /// When it last made progress, by the store's clock; `None`: its policy has no `progress_deadline`, or it is over.
    pub last_progress: Option<Timestamp>,
    /// It made no progress for longer than its `progress_deadline`, in words.
    pub overdue: Option<String>,
    pub acts: Vec<Act>,
    /// Notices of its end that no host has sent yet, such as `halted to ops`.
    pub unsent: Vec<String>,
}

/// The rollout of an app, in short.
#[derive(Debug, Serialize)]
pub(crate) struct AppRollout {
    pub app: String,
    /// `false`: each host goes for itself (`rollout: none`), and the rest is empty.
    pub coordinated: bool,
    pub wanted: Option<Sha>,
    /// `None`: no host has begun it.
    pub state: Option<EntryState>,
    /// The hosts that are proven at the sha, and all.
    pub proven: usize,
    pub hosts: Option<u32>,
    /// What everybody waits for, and what mends it.
    pub waits_for: Option<String>,
    /// Hosts that cannot take the sha for reasons of their own.
    pub local_failures: Vec<LocalFailure>,
}

/// A canary that has not passed, but is proven at the sha.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Bake {
    pub node: String,
    /// In seconds. It takes longer if the canary is unhealthy, or proves itself more rarely than once a minute.
    pub at_least_s: u64,
}

/// A slot that is held.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct HeldSlot {
    pub number: u32,
    #[serde(flatten)]
    pub holder: SlotHolder,
}

#[cfg(test)]
impl HeldSlot {
    pub(crate) fn of(node: &str) -> HeldSlot {
        let holder =
            serde_json::json!({"node": node, "machine": "m", "since": "2026-11-21T03:00:00Z"});
        HeldSlot {
            number: 0,
            holder: serde_json::from_value(holder).unwrap(),
        }
    }
}

impl AppRollout {
    pub(crate) fn independent(app: &str) -> AppRollout {
        AppRollout {
            app: app.to_owned(),
            coordinated: false,
            wanted: None,
            state: None,
            proven: 0,
            hosts: None,
            waits_for: None,
            local_failures: Vec::new(),
        }
    }

    pub(crate) fn coordinated(rollout: RolloutView) -> AppRollout {
        AppRollout {
            app: rollout.app,
            coordinated: true,
            wanted: rollout.wanted,
            state: rollout.state,
            proven: rollout.proven.len(),
            hosts: rollout.hosts,
            waits_for: rollout.waits_for,
            local_failures: rollout.local_failures,
        }
    }

    /// Whether all hosts have what is wanted.
    pub(crate) fn is_done(&self) -> bool {
        self.state == Some(EntryState::Done)
    }

    /// `4f2c9d0: rolling, 2 of 5 hosts`.
    pub(crate) fn headline(&self) -> String {
        if !self.coordinated {
            return "none: each host takes a new sha by itself".to_owned();
        }
        headline(self.wanted.as_ref(), self.state, self.proven, self.hosts)
    }
}

impl RolloutView {
    /// The rollout of an app of which nothing is known.
    pub(crate) fn empty(environment: &str, app: &str) -> RolloutView {
        RolloutView {
            environment: environment.to_owned(),
            app: app.to_owned(),
            wanted: None,
            state: None,
            outcome: Exit::Pending,
            generation: None,
            opened: None,
            opened_by: None,
            hosts: None,
            proven: Vec::new(),
            slots: 1,
            holders: Vec::new(),
            canaries: Vec::new(),
            bakes: Vec::new(),
            failures: Vec::new(),
            local_failures: Vec::new(),
            at_work: Vec::new(),
            halt: None,
            claim: None,
            restart: None,
            hold: None,
            notes: Vec::new(),
            waits_for: None,
            last_progress: None,
            overdue: None,
            acts: Vec::new(),
            unsent: Vec::new(),
        }
    }
}

/// Reads the rollout of an app, and who is out. `after`: the apps that its policy names.
pub(crate) fn rollout_view(
    store: &impl RolloutStore,
    environment: &str,
    app: &str,
    after: &[String],
) -> Result<RolloutView, RolloutError> {
    if let Some(sha) = store.wanted()?.shas.first() {
        // Nobody may be left to do it. Who may not write only looks.
        if let Err(error) = end_if_done(store, &Register::new(environment, app), sha) {
            tracing::debug!(%error, "the rollout is left as it is");
        }
    }
    let mut view = rollout_summary(store, environment, app, after)?;
    let numbers: Vec<u32> = (0..view.slots).collect();
    let held = store.holders(&numbers)?.into_iter();
    view.holders = held
        .map(|(number, holder)| HeldSlot { number, holder })
        .collect();
    Ok(view)
}

/// Reads the slot of a service, and what operators did to it.
pub(crate) fn service_view(
    store: &impl RolloutStore,
    environment: &str,
    name: &str,
) -> Result<RolloutView, RolloutError> {
    let mut view = RolloutView::empty(environment, name);
    let holder = store.slot(0)?.and_then(|found| found.object.holder);
    let held = holder.map(|holder| HeldSlot { number: 0, holder });
    view.holders.extend(held);
    if view.holders.is_empty() {
        view.outcome = Exit::Converged;
    }
    if let Some(register) = store.register()? {
        view.acts = register.object.acts;
    }
    Ok(view)
}

/// Reads the rollout of an app without its slots: four requests, whatever the number of hosts, and two for each app of
/// `after`.
pub(crate) fn rollout_summary(
    store: &impl RolloutStore,
    environment: &str,
    app: &str,
    after: &[String],
) -> Result<RolloutView, RolloutError> {
    let wanted = store.wanted()?.shas.into_iter().next();
    let register = store.register()?.map(|found| found.object);
    let register = register.unwrap_or_else(|| Register::new(environment, app));
    let entry = wanted.as_ref().and_then(|sha| register.current(sha));
    let quarantine = match &wanted {
        Some(sha) => store.quarantine(sha)?.map(|found| found.object),
        None => None,
    };
    let quarantine = quarantine.filter(|found| found.in_force);
    let proven = match &wanted {
        Some(sha) => store.marks(sha)?,
        None => Vec::new(),
    };
    let obstacle = match (&quarantine, entry.and_then(|entry| entry.halt.as_ref())) {
        (Some(found), _) => Some(Obstacle::Quarantined {
            by: found.by.clone(),
            reason: found.reason.clone(),
        }),
        (None, Some(halt)) => Some(Obstacle::Halted(halt.clone())),
        (None, None) => match entry {
            Some(entry) => waited_for(store, entry, after)?,
            None => None,
        },
    };
    Ok(RolloutView {
        environment: environment.to_owned(),
        app: app.to_owned(),
        state: entry.map(Entry::state),
        outcome: outcome(entry, quarantine.is_some()),
        generation: entry.map(|entry| entry.id.generation),
        opened: entry.map(|entry| entry.opened),
        opened_by: entry.map(|entry| entry.opened_by.clone()),
        hosts: entry.and_then(|entry| entry.count).map(|count| count.hosts),
        canaries: entry.map_or_else(Vec::new, |entry| entry.canaries.clone()),
        bakes: Vec::new(),
        failures: entry.map_or_else(Vec::new, |entry| entry.failures.clone()),
        local_failures: entry.map_or_else(Vec::new, |entry| entry.local_failures.clone()),
        at_work: Vec::new(),
        halt: entry.and_then(|entry| entry.halt.clone()),
        waits_for: wanted
            .as_ref()
            .zip(obstacle)
            .map(|(sha, obstacle)| obstacle.remedy(sha).describe(environment, app)),
        slots: register.slots,
        claim: register.claim,
        restart: None,
        hold: None,
        notes: Vec::new(),
        last_progress: None,
        overdue: None,
        acts: register.acts,
        unsent: Vec::new(),
        wanted,
        proven,
        holders: Vec::new(),
    })
}

/// `4f2c9d0: rolling, 2 of 5 hosts`.
pub(crate) fn headline(
    wanted: Option<&Sha>,
    state: Option<EntryState>,
    proven: usize,
    hosts: Option<u32>,
) -> String {
    let sha = wanted.map_or("nothing wanted", |sha| sha.short());
    let state = state.map_or("not begun", |state| state.word());
    let hosts = hosts.map_or(String::new(), |hosts| {
        format!(", {proven} of {hosts} hosts")
    });
    format!("{sha}: {state}{hosts}")
}

/// What all hosts but the ones at work wait for.
fn waited_for(
    store: &impl RolloutStore,
    entry: &Entry,
    after: &[String],
) -> Result<Option<Obstacle>, RolloutError> {
    let state = entry.state();
    let waits_for_others = matches!(state, EntryState::Canary | EntryState::Rolling);
    if waits_for_others
        && !entry.skips_after
        && let Some(app) = unfinished_app(store, after)?
    {
        return Ok(Some(Obstacle::After(app)));
    }
    Ok(match state {
        EntryState::Open => Some(Obstacle::Counting),
        EntryState::Canary => {
            let waiting = entry.canaries.iter().filter(|canary| !canary.passed);
            let waiting = waiting.map(|canary| canary.node.clone());
            Some(Obstacle::Canaries(waiting.collect()))
        }
        _ => None,
    })
}

fn outcome(entry: Option<&Entry>, is_quarantined: bool) -> Exit {
    let Some(entry) = entry else {
        return match is_quarantined {
            true => Exit::RolledBack,
            false => Exit::Pending,
        };
    };
    match (entry.state(), &entry.halt) {
        _ if is_quarantined => Exit::RolledBack,
        (EntryState::Halted, Some(halt)) if halt.cause == HaltCause::Quarantined => {
            Exit::RolledBack
        }
        (EntryState::Halted, _) => Exit::Failed,
        (EntryState::Done, _) => Exit::Converged,
        _ => Exit::Pending,
    }
}
