//! The part that this host takes in the rollouts of its apps.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::apps::deployed_apps;
use super::joined::{CoordinatedService, JoinedRollout, Rollouts};
use super::{PassOptions, QuarantineLift, Session};
use crate::apply;
use crate::desired::{DesiredApp, DesiredState, Freshness, Sha};
use crate::fleet::machine_id;
use crate::fleet::rollout::{
    AppPosition, FleetHost, HostRollout, Member, Polling, RegisterObserver, ServiceSlot, Settled,
    WantedHold, WantedShas, may_take_part_lately,
};
use crate::ports::backoff;
use crate::ports::permission::Independent;
use crate::release::{self, InsteadOfWanted, ReleaseSpec, ReleaseStatus};
use crate::report::{Report, ResourceStatus};
use crate::role::Catalog;

/// How often a host that others wait for proves itself.
const PROOF_INTERVAL: Duration = Duration::from_secs(3);

/// How often it looks at everything else meanwhile, as often as the timer.
const PASS_INTERVAL: Duration = Duration::from_secs(15);

impl Session {
    /// Lets the apps whose hosts take up a new sha by permission ask for it. A host by itself needs none.
    pub(super) fn join_rollouts(
        &self,
        catalog: &mut Catalog,
        desired: &DesiredState,
        options: &PassOptions,
    ) {
        let rollouts = self.find_rollouts(catalog, desired, options);
        for service in &rollouts.services {
            let slot = &service.slot;
            self.host
                .permissions
                .set_for_service(&slot.name, slot.clone());
        }
        if !self.settings.store.is_local() {
            for app in deployed_apps(catalog) {
                // The hosts find a change in the same tick.
                let others_serve = Some(false);
                let permission = Rc::new(Independent { others_serve });
                self.host.permissions.set(&app.spec.app, permission);
            }
        }
        for joined in &rollouts.apps {
            let rollout = &joined.rollout;
            self.host.permissions.set(&rollout.app, rollout.clone());
        }
        for spec in catalog.releases_mut() {
            let mut connected = rollouts.connected();
            let Some(joined) = connected.find(|joined| joined.rollout.app == spec.app) else {
                continue;
            };
            let rollout = &joined.rollout;
            let position = self.position(spec, &rollout.sha);
            joined.position.set(Some(position));
            if position != AppPosition::Wanted {
                self.follow_lift(spec, rollout);
            }
            let app = desired.apps.get(&spec.app);
            let Some(previous) = app.and_then(|app| app.previous.as_ref()) else {
                continue;
            };
            match rollout.instead(position, previous) {
                Ok(None) => {}
                Ok(Some(why)) => spec.set_instead(InsteadOfWanted {
                    sha: previous.clone(),
                    why,
                }),
                Err(error) => tracing::warn!("{}: its rollout: {error}", spec.app),
            }
        }
        self.rollouts.replace(rollouts);
    }

    fn find_rollouts(
        &self,
        catalog: &Catalog,
        desired: &DesiredState,
        options: &PassOptions,
    ) -> Rollouts {
        let mut rollouts = Rollouts::default();
        if self.settings.store.is_local() {
            return rollouts;
        }
        let is_cut_off = matches!(desired.freshness, Freshness::Stale { .. });
        let Some(host) = self.fleet_host(is_cut_off) else {
            return rollouts;
        };
        let services = catalog.resources.iter().filter_map(|resource| {
            let slot = ServiceSlot {
                name: resource.body.service()?.slots()?,
                host: host.clone(),
                by_hand: options.by_hand,
            };
            Some(CoordinatedService {
                id: resource.id.clone(),
                slot: Rc::new(slot),
            })
        });
        rollouts.services.extend(services);
        rollouts.host = Some(host.clone());
        for app in deployed_apps(catalog) {
            let name = &app.spec.app;
            let wanted = desired.apps.get(name);
            // A sha that the role names is none of the manifest's.
            let Some(wanted) = wanted.filter(|_| app.spec.sha.is_none()) else {
                continue;
            };
            let generation = desired.generation;
            let Some(rollout) = self.host_rollout(&host, name, (wanted, generation), options)
            else {
                continue;
            };
            rollouts.apps.push(JoinedRollout {
                rollout,
                position: Cell::new(None),
                is_over: Cell::new(false),
            });
        }
        rollouts
    }

    /// This host among the others; `None`: the store cannot be used.
    pub(super) fn fleet_host(&self, is_cut_off: bool) -> Option<Rc<FleetHost>> {
        let store = self.shared_store().ok()?;
        Some(Rc::new(FleetHost {
            root: self.host.root.clone(),
            clock: self.host.clock.clone(),
            store: store.clone(),
            store_name: self.settings.store.url.clone(),
            manifest_key: self.settings.manifest.clone(),
            fleet: self.settings.fleet.clone(),
            signers: self.settings.signers.clone(),
            environment: self.settings.environment.clone(),
            member: Member {
                node: self.node().to_owned(),
                machine: machine_id(&self.host).unwrap_or_default(),
            },
            is_cut_off,
        }))
    }

    /// The part of this host in the rollouts of one app; `None`: each host goes for itself. With the generation of the
    /// manifest that wants it.
    pub(super) fn host_rollout(
        &self,
        host: &Rc<FleetHost>,
        name: &str,
        (wanted, generation): (&DesiredApp, Option<u64>),
        options: &PassOptions,
    ) -> Option<Rc<HostRollout>> {
        let policy = wanted.rollout.policy()?;
        let group = policy.per.as_ref();
        let next_slot = options.next_slots.get(name).copied();
        Some(Rc::new(HostRollout {
            host: host.clone(),
            app: name.to_owned(),
            sha: wanted.sha.clone(),
            wanted: WantedShas {
                generation: generation.unwrap_or(0),
                shas: wanted.wanted_shas.iter().cloned().collect(),
                hold: wanted.hold.as_ref().map(WantedHold::of),
            },
            ignores_hold: wanted.ignores_hold,
            group: group.map(|tag| self.settings.tags.get(tag).cloned().unwrap_or_default()),
            policy: policy.clone(),
            looked_at: Cell::new(Duration::ZERO),
            denied: Cell::new(None),
            polling: next_slot.map_or_else(Polling::anywhere, Polling::at),
            observer: RegisterObserver::default(),
        }))
    }

    /// Lifts the quarantine of the wanted sha of an app for all hosts, if there is one. Returns a note for the report.
    pub(super) fn lift_rollout_quarantine(
        &self,
        app: &str,
        lift: &QuarantineLift,
    ) -> Option<String> {
        let rollouts = self.rollouts.borrow();
        let mut joined = rollouts.apps.iter();
        let rollout = &joined.find(|joined| joined.rollout.app == app)?.rollout;
        match rollout.lift_quarantine(&lift.by, &lift.reason) {
            Ok(false) => None,
            Ok(true) => Some(format!(
                "{app}: lifted the quarantine of {} for all hosts of {}",
                rollout.sha.short(),
                self.settings.environment
            )),
            Err(error) => Some(format!(
                "{app}: the quarantine for all hosts stays: {error}"
            )),
        }
    }

    /// Lifts the quarantine on this host that an operator has lifted for all hosts.
    fn follow_lift(&self, spec: &ReleaseSpec, rollout: &HostRollout) {
        let overrides = release::Overrides::load(&self.host, &spec.layout());
        let is_quarantined =
            overrides.is_ok_and(|overrides| overrides.find_quarantined(&rollout.sha).is_some());
        if !is_quarantined {
            return;
        }
        match rollout.follow_lift() {
            Ok(None) => {}
            Ok(Some((by, reason))) => {
                match release::lift_quarantine(spec, &self.host, &by, &reason) {
                    Ok(line) => line.iter().for_each(|line| tracing::info!("{line}")),
                    Err(failure) => tracing::warn!("{}: {failure}", spec.app),
                }
            }
            Err(error) => tracing::warn!("{}: its rollout: {error}", spec.app),
        }
    }

    /// Settles what this host owes to its rollouts. Returns lines for the report.
    pub(super) fn settle_rollouts(&self, catalog: &Catalog) -> Vec<String> {
        let mut lines = Vec::new();
        let mut is_proving = false;
        let rollouts = self.rollouts.borrow();
        for joined in rollouts.writable() {
            let rollout = &joined.rollout;
            let app = deployed_apps(catalog).find(|app| app.spec.app == rollout.app);
            let Some(app) = app else {
                continue;
            };
            let runs_as = || catalog.runs_as(app.id, &self.host);
            let is_healthy = || release::check_active(app.spec, &self.host, &runs_as).is_ok();
            let known = joined.position.get();
            let position = known.unwrap_or_else(|| self.position(app.spec, &rollout.sha));
            let mut restarted = None;
            match rollout.settle(position, &is_healthy) {
                Ok(Settled::Over { restarted: last }) => {
                    joined.is_over.set(true);
                    restarted = last;
                }
                Ok(Settled::Proving) => is_proving = true,
                Ok(Settled::Nothing) => {}
                Ok(Settled::Environment) => {
                    let (by, why) = (
                        "the rollout",
                        "the release of before does not work any more either",
                    );
                    match release::lift_quarantine(app.spec, &self.host, by, why) {
                        Ok(line) => lines.extend(line),
                        Err(failure) => lines.push(format!("{}: {}", rollout.app, failure.message)),
                    }
                }
                Err(error) => lines.push(format!("{}: its rollout: {error}", rollout.app)),
            }
            let serves_and_waits = rollout.is_waiting() && position == AppPosition::Other;
            rollout
                .polling
                .set_broken(serves_and_waits && !is_healthy());
            let has_restarted = || apply::has_restarted(catalog, &rollout.app, &self.host);
            let requested = app
                .spec
                .restart_requested_at
                .filter(|at| restarted != Some(*at));
            if let Some(requested_at) = requested
                && let Err(error) = rollout.mark_restart(requested_at, &has_restarted)
            {
                lines.push(format!("{}: its restart: {error}", rollout.app));
            }
        }
        self.is_proving.set(is_proving);
        lines
    }

    /// Gives the slots of services back whose restarts and reloads are over, and succeeded: one that does not work is not
    /// to be repeated on other hosts.
    pub(super) fn give_service_slots_back(&self, report: &Report) -> Vec<String> {
        let is_right = |id: &str| {
            let mut rows = report.resources.iter();
            rows.find(|row| row.id == id).is_none_or(|row| {
                let is_right =
                    matches!(row.status, ResourceStatus::Right | ResourceStatus::Changed);
                row.owed.is_empty() && is_right
            })
        };
        let rollouts = self.rollouts.borrow();
        let services = rollouts.services.iter();
        let right = services.filter(|service| is_right(&service.id));
        let abandoned = rollouts.abandoned_slots();
        let slots = right.map(|service| &*service.slot).chain(&abandoned);
        let errors = slots.filter_map(|slot| {
            let error = slot.give_back().err()?;
            Some(format!("{}: its slot: {error}", slot.name))
        });
        errors.collect()
    }

    /// Whether this host may write what rollouts need. `None`: it needs no permission of others.
    pub(super) fn may_take_part_in_rollouts(&self, catalog: &Catalog) -> Option<bool> {
        let has_policy = self.policy.borrow().status.is_some();
        if self.settings.store.is_local() || !has_policy && catalog.releases().next().is_none() {
            return None;
        }
        let store = self.shared_store().ok()?;
        let times = (self.host.clock.now(), self.settings.fleet.heartbeat());
        may_take_part_lately(&self.host.root, &**store, &self.settings.environment, times).ok()
    }

    /// Waits for permission that the last pass lacked, or until others wait for this host no longer. Holds no lock
    /// meanwhile: an operator's command never stands behind a host that only waits. Returns whether another pass has
    /// something to do.
    pub(crate) fn wait_for_rollouts(&self) -> bool {
        let (rollouts, policy) = (self.rollouts.borrow(), self.policy.borrow());
        let apps = rollouts.apps.iter().map(|joined| &joined.rollout);
        let waiting: Vec<&Rc<HostRollout>> = apps
            .chain(&policy.rollout)
            .filter(|rollout| rollout.is_waiting())
            .collect();
        if waiting.is_empty() && !self.is_proving.get() {
            return false;
        }
        let started = self.host.clock.monotonic_now();
        loop {
            let polls = waiting.iter().map(|rollout| rollout.polling.interval());
            let interval = match self.is_proving.get() {
                true => PROOF_INTERVAL,
                false => polls.max().unwrap_or(PASS_INTERVAL),
            };
            backoff::sleep_jittered(interval);
            if self.host.stop.is_set() {
                return false;
            }
            let waited = self
                .host
                .clock
                .monotonic_now()
                .saturating_duration_since(started);
            // A pass that is due anyway asks as well.
            let is_due = self.is_proving.get() || waited >= PASS_INTERVAL;
            if is_due || waiting.iter().any(|rollout| rollout.ends_wait()) {
                return true;
            }
        }
    }

    /// Where this host goes on to look for a free slot, by app.
    pub(crate) fn next_slots(&self) -> BTreeMap<String, u32> {
        let (rollouts, policy) = (self.rollouts.borrow(), self.policy.borrow());
        let apps = rollouts.apps.iter().map(|joined| &joined.rollout);
        let slots = apps
            .chain(&policy.rollout)
            .map(|rollout| (rollout.app.clone(), rollout.polling.next_slot()));
        slots.collect()
    }

    /// Where an app is, in comparison with the wanted sha.
    pub(super) fn position(&self, spec: &ReleaseSpec, wanted: &Sha) -> AppPosition {
        let active = release::active(&self.host, &spec.layout(), spec.keep_releases);
        let Some(active) = active.ok().flatten() else {
            return AppPosition::Absent;
        };
        let is_proven = active.trial.is_none()
            && matches!(active.state, Some(ReleaseStatus::Good) | None)
            && active.sha.is_some();
        match is_proven {
            false if active.served_before => AppPosition::Unproven,
            false => AppPosition::Absent,
            true if active.sha_for(Some(wanted)) == Some(wanted) => AppPosition::Wanted,
            true => AppPosition::Other,
        }
    }
}
