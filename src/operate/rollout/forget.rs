//! What a node holds in the rollouts of its environment, given up by an operator who says that its machine is gone.

use jiff::Timestamp;

use super::explain;
use super::service::is_service;
use super::target::{RolloutTarget, recount};
use crate::fleet::rollout::{
    OnceOutcome, Operator, OperatorError, RolloutError, RolloutStore, StoreObjects,
};
use crate::operate::CommandError;
use crate::ports::store::Store;
use crate::settings::{FleetSettings, is_name};

/// The node whose machine is gone.
pub(crate) struct NodeRelease<'a> {
    pub store: &'a dyn Store,
    pub environment: &'a str,
    /// The manifest's key.
    pub manifest_key: &'a str,
    pub fleet: &'a FleetSettings,
    pub node: &'a str,
    /// How the step ended that the node has claimed to run for all.
    pub step: Option<OnceOutcome>,
    /// The operator's name.
    pub by: &'a str,
    /// By the operator's clock, for people.
    pub now: Timestamp,
}

/// What was given up.
#[derive(Debug, Default)]
pub(crate) struct ReleasedNode {
    /// For example `slot 0 of shop is free`.
    pub done: Vec<String>,
    /// What could not be looked at or given up, a line each.
    pub warnings: Vec<String>,
}

/// Recorded with each act.
const REASON: &str = "its node was forgotten";

impl NodeRelease<'_> {
    /// Frees the slots of the node in all apps, settles the step that it has claimed, and lists its failures no more.
    /// Nothing is changed if a claimed step is not said to have ended.
    pub(crate) fn run(&self) -> Result<ReleasedNode, CommandError> {
        let mut released = ReleasedNode::default();
        // Hosts that share a folder of one machine have no rollouts.
        if self.store.address().starts_with("dir:") {
            return Ok(released);
        }
        let apps = self.apps(&mut released.warnings);
        let mut known = Vec::new();
        for app in &apps {
            let target = self.target(app);
            match target.objects().register() {
                Ok(None) if is_service(app) => known.push((app, 1)),
                Ok(None) => {}
                Ok(Some(found)) => {
                    let claim = found.object.claim.as_ref();
                    let claim = claim.filter(|claim| claim.member.node == self.node);
                    if let (Some(claim), None) = (claim, self.step) {
                        return Err(explain(OperatorError::StepUnsettled {
                            node: claim.member.node.clone(),
                            step: claim.step.clone(),
                        }));
                    }
                    known.push((app, found.object.slots));
                }
                Err(error) => released.warnings.push(self.unknown(app, &error)),
            }
        }
        for (app, slots) in known {
            self.release(app, slots, &mut released);
        }
        Ok(released)
    }

    /// The apps that may have a register: those of the manifest, and those whose register is listed.
    fn apps(&self, warnings: &mut Vec<String>) -> Vec<String> {
        let mut apps: Vec<String> = Vec::new();
        match self.target("").objects().manifest() {
            Ok(manifest) => {
                let environment = manifest.environments.get(self.environment);
                let names = environment.into_iter().flat_map(|known| known.app_names());
                apps.extend(names.map(str::to_owned));
            }
            Err(error) => warnings.push(format!("the apps of {}: {error}", self.environment)),
        }
        let prefix = format!("rollouts/{}/", self.environment);
        // Hosts need no permission to list them, and an operator may have that of a host.
        let listed = self.store.list(&prefix).unwrap_or_default();
        let names = listed.iter().filter_map(|object| {
            let name = object.key.strip_prefix(&prefix)?;
            name.strip_suffix(".json")
        });
        apps.extend(names.filter(|name| is_name(name)).map(str::to_owned));
        apps.extend(self.services(warnings));
        apps.sort();
        apps.dedup();
        apps
    }

    /// The services of which a host has ever taken a slot.
    fn services(&self, warnings: &mut Vec<String>) -> Vec<String> {
        let folder = format!("slots/{}/", self.environment);
        let listed = self.store.list(&format!("{folder}_"));
        let listed = listed.unwrap_or_else(|error| {
            // Nothing else names them.
            warnings.push(format!(
                "it is unknown whether {} holds the slot of a service, such as _haproxy: {error}",
                self.node
            ));
            Vec::new()
        });
        let names = listed.iter().filter_map(|object| {
            let (name, _) = object.key.strip_prefix(&folder)?.split_once('/')?;
            is_name(name.strip_prefix('_')?).then(|| name.to_owned())
        });
        names.collect()
    }

    fn release(&self, app: &str, slots: u32, released: &mut ReleasedNode) {
        let target = self.target(app);
        let objects = target.objects();
        let operator = Operator {
            store: &objects,
            environment: self.environment,
            app,
            name: self.by,
            reason: REASON,
            now: self.now,
            sign: None,
        };
        if let Ok(wanted) = objects.wanted() {
            for sha in &wanted.shas {
                if let Err(error) = recount(&target, &operator, sha, Some(self.node)) {
                    released
                        .warnings
                        .push(format!("{app}: {}", error.summary()));
                }
            }
        }
        match objects.slots_of(self.node, slots) {
            Ok(found) => {
                released.warnings.extend(found.unread);
                for (number, nonce) in found.held {
                    let broken = operator.break_slot(number, nonce, self.step);
                    released.add(broken, format!("slot {number} of {app} is free"));
                }
            }
            Err(error) => released.warnings.push(self.unknown(app, &error)),
        }
        match self.settle_step(&objects, &operator) {
            Ok(None) => {}
            Ok(Some(done)) => released.done.push(format!("{done} for {app}")),
            Err(error) => released.warnings.push(format!("{app}: {error}")),
        }
        if let Err(error) = operator.forget(self.node) {
            released.warnings.push(format!("{app}: {error}"));
        }
    }

    /// Settles a claim of the node that holds no slot.
    fn settle_step(
        &self,
        objects: &StoreObjects<'_>,
        operator: &Operator<'_, StoreObjects<'_>>,
    ) -> Result<Option<String>, OperatorError> {
        let register = objects.register()?.map(|found| found.object);
        let claim = register.and_then(|register| register.claim);
        let claim = claim.filter(|claim| claim.member.node == self.node);
        let (Some(claim), Some(outcome)) = (claim, self.step) else {
            return Ok(None);
        };
        let (sha, step) = (&claim.entry.sha, &claim.step);
        operator.resolve_step(sha, step, outcome, Some(claim.claim))?;
        Ok(Some(format!("`{step}` is settled")))
    }

    fn target<'t>(&'t self, app: &'t str) -> RolloutTarget<'t> {
        RolloutTarget {
            store: self.store,
            environment: self.environment,
            app,
            manifest_key: self.manifest_key,
            fleet: self.fleet,
        }
    }

    fn unknown(&self, app: &str, error: &RolloutError) -> String {
        format!(
            "it is unknown whether {} holds a slot of {app}: {error}",
            self.node
        )
    }
}

impl ReleasedNode {
    fn add(&mut self, result: Result<(), OperatorError>, done: String) {
        match result {
            Ok(()) => self.done.push(done),
            Err(error) => self.warnings.push(error.to_string()),
        }
    }
}
