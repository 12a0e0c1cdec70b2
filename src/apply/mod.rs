//! Applies a plan: changes every resource in order, then fulfills what is owed.
//!
//! Each resource is inspected again just before it is changed, because earlier ones may have changed what the
//! plan saw. A failure of a resource is report data: its dependents are skipped, all others still converge.

mod checks;
mod trial;

use std::collections::{BTreeMap, BTreeSet};

use crate::owed::{self, Obligation, RecordStore, Stamps};
use crate::plan::{Plan, Selection, without_redundant_reloads};
use crate::ports::Host;
use crate::ports::root::RootError;
use crate::resource::{ApplyOutcome, Change, Duty, Failure, ServiceRun};
use crate::role::{Catalog, Resource};
use checks::CheckSets;
pub use checks::{recover_interrupted, run_check};

/// Hint for a quarantined sha.
const LIFT_HINT: &str =
    "publish another sha; or, if the cause is fixed, `trueup converge --lift-quarantine REASON`";

/// The tracing target of events about resources. Each event is inside the span of its resource, which has the
/// resource, its app and the wanted sha as fields: see [`resource_span`].
pub const RESOURCE_TARGET: &str = "trueup::resource";

/// The span for all events about a resource.
pub fn resource_span(
    resource: &Resource,
    catalog: &Catalog,
    shas: &BTreeMap<String, String>,
) -> tracing::Span {
    let app = catalog.app_of(resource);
    let sha = app.and_then(|app| shas.get(app)).map(String::as_str);
    tracing::info_span!("resource", resource = resource.id, app, sha)
}

/// The result of one resource.
#[derive(Debug)]
pub enum ResourceResult {
    Unchanged,
    Changed(Change),
    Waiting(Change, String),
    /// It failed its trial and the earlier release is back, or the wanted sha failed earlier and is
    /// quarantined.
    RolledBack(Change, Failure),
    Failed(Option<Change>, Failure),
    /// Not inspected or not changed, for this reason.
    Skipped(String),
}

/// The result of one resource and of its duties.
#[derive(Debug)]
pub struct AppliedResource {
    pub id: String,
    pub result: ResourceResult,
    /// Fulfilled in this pass.
    pub fulfilled: Vec<Obligation>,
    /// Still owed, each with the failure or the reason to wait.
    pub owed: Vec<(Obligation, String)>,
    /// The failure of a duty.
    duty_failure: Option<Failure>,
}

/// Progress to report during a pass.
pub enum Event<'a> {
    ChangeStarted {
        id: &'a str,
        change: &'a Change,
    },
    DutyStarted {
        id: &'a str,
        obligation: &'a Obligation,
    },
    /// A trial reached its next step.
    TrialProgress {
        id: &'a str,
        message: &'a str,
    },
}

/// The inputs of [`apply`] besides the host.
pub struct ApplyParams<'a> {
    pub catalog: &'a Catalog,
    pub plan: &'a Plan,
    pub selection: &'a Selection,
    /// The wanted sha of each app, for the log.
    pub wanted_shas: &'a BTreeMap<String, String>,
    pub on_event: &'a mut dyn FnMut(Event<'_>),
}

/// Carries out a plan. `Err` means that trueup's own bookkeeping failed, after which nothing more is changed;
/// failures of resources are in the list.
pub fn apply(
    task: ApplyParams<'_>,
    host: &Host,
) -> std::result::Result<Vec<AppliedResource>, RootError> {
    let ledger = RecordStore::new(&host.root);
    let mut walk = Applier {
        stamps: task.plan.stamps.clone(),
        checks: CheckSets::new(task.catalog, host),
        failed: BTreeSet::new(),
        ledger,
        host,
        on_event: task.on_event,
    };
    walk.record_running_services(task.catalog, task.plan)?;
    let mut done = Vec::new();
    for resource in task
        .catalog
        .resources
        .iter()
        .filter(|r| task.selection.contains(&r.id))
    {
        let told = resource_span(resource, task.catalog, task.wanted_shas).entered();
        let result = walk.apply_resource(resource)?;
        drop(told);
        if matches!(
            result,
            ResourceResult::Failed(..) | ResourceResult::Skipped(_)
        ) {
            walk.failed.insert(resource.id.clone());
        }
        done.push(AppliedResource {
            id: resource.id.clone(),
            result,
            fulfilled: Vec::new(),
            owed: Vec::new(),
            duty_failure: None,
        });
        for (id, failure) in walk.checks.check_completed_sets(&resource.id, host)? {
            walk.mark_failed(&id, failure, &mut done, task.catalog);
        }
    }
    for entry in &mut done {
        let resource = task
            .catalog
            .find(&entry.id)
            .expect("made from the catalog above");
        if !resource.triggers.is_empty() {
            let _told = resource_span(resource, task.catalog, task.wanted_shas).entered();
            walk.fulfill_duties(resource, entry)?;
        }
    }
    walk.finish_trials(task.catalog, task.wanted_shas, &mut done)?;
    walk.fail_unhealthy(task.catalog, &mut done);
    Ok(done)
}

/// Does maintenance work on a converged host. Logs failures, which affect no service.
pub fn run_maintenance(catalog: &Catalog, plan: &Plan, host: &Host) {
    for resource in plan.maintenance.iter().filter_map(|id| catalog.find(id)) {
        if host.stop.is_set() {
            return;
        }
        if let Err(failure) = resource.body.run_maintenance(host) {
            tracing::warn!("{}: {failure}", resource.id);
        }
    }
}

struct Applier<'a> {
    stamps: Stamps,
    checks: CheckSets<'a>,
    /// Ids of the resources that failed or were skipped.
    failed: BTreeSet<String>,
    ledger: RecordStore<'a>,
    host: &'a Host,
    on_event: &'a mut dyn FnMut(Event<'_>),
}

impl Applier<'_> {
    /// Records what each running service runs with, before any of its dependencies changes.
    fn record_running_services(
        &self,
        catalog: &Catalog,
        plan: &Plan,
    ) -> std::result::Result<(), RootError> {
        for step in plan.steps.iter().filter(|step| step.run.is_some()) {
            let resource = catalog
                .find(&step.id)
                .expect("the steps were made from the catalog");
            if !resource.triggers.is_empty() {
                self.update_record(resource, step.run.as_ref(), &[])?;
            }
        }
        Ok(())
    }

    fn update_record(
        &self,
        resource: &Resource,
        run: Option<&ServiceRun>,
        fulfilled: &[Duty],
    ) -> std::result::Result<(), RootError> {
        let record = self.ledger.read(&resource.id);
        let settled = owed::updated_record(
            record.as_ref(),
            run,
            &resource.triggers,
            &self.stamps,
            fulfilled,
        );
        self.ledger.write(&resource.id, &settled)
    }

    fn apply_resource(
        &mut self,
        resource: &Resource,
    ) -> std::result::Result<ResourceResult, RootError> {
        if self.host.stop.is_set() {
            return Ok(ResourceResult::Skipped(
                "stopped on request; the next pass continues from here".into(),
            ));
        }
        let seen = match resource.body.inspect(self.host, resource.watched) {
            Ok(seen) => seen,
            Err(failure) => return Ok(ResourceResult::Failed(None, failure)),
        };
        self.set_stamp(&resource.id, seen.stamp);
        let Some(change) = seen.change else {
            return Ok(ResourceResult::Unchanged);
        };
        if let Some(broken) = self.failed_dependency(resource) {
            return Ok(ResourceResult::Skipped(format!(
                "it depends on {broken}, which failed"
            )));
        }
        (self.on_event)(Event::ChangeStarted {
            id: &resource.id,
            change: &change,
        });
        if let Err(error) = self.checks.save_before_change(resource, self.host) {
            return Ok(ResourceResult::Failed(Some(change), error.into()));
        }
        Ok(match resource.body.apply(&change, self.host) {
            Ok(ApplyOutcome::Waiting(why)) => ResourceResult::Waiting(change, why),
            Ok(ApplyOutcome::Refused(why)) => {
                ResourceResult::RolledBack(change, Failure::new(why).hint(LIFT_HINT))
            }
            Ok(ApplyOutcome::Done) => self.verify_change(resource, change)?,
            Err(failure) => ResourceResult::Failed(Some(change), failure),
        })
    }

    /// Fails resources that are unhealthy and were not changed. Runs last and does not skip their dependents,
    /// whose changes may be the repair.
    fn fail_unhealthy(&self, catalog: &Catalog, done: &mut [AppliedResource]) {
        for entry in done {
            let untouched = matches!(entry.result, ResourceResult::Unchanged);
            if !untouched || !entry.fulfilled.is_empty() || !entry.owed.is_empty() {
                continue;
            }
            let resource = catalog.find(&entry.id);
            let seen = resource.and_then(|resource| resource.body.inspect(self.host, false).ok());
            if let Some(failure) = seen.and_then(|seen| seen.unhealthy_reason) {
                entry.result = ResourceResult::Failed(None, failure);
            }
        }
    }

    /// Inspects a resource again after its change: only an observed result counts as done.
    fn verify_change(
        &mut self,
        resource: &Resource,
        change: Change,
    ) -> std::result::Result<ResourceResult, RootError> {
        let seen = match resource.body.inspect(self.host, resource.watched) {
            Ok(seen) => seen,
            Err(failure) => return Ok(ResourceResult::Failed(Some(change), failure)),
        };
        self.set_stamp(&resource.id, seen.stamp);
        // A release on trial is settled after everything that uses it was restarted.
        if let Some(rest) = seen.change.filter(|_| seen.trial.is_none()) {
            let fields: Vec<&str> = rest
                .fields
                .iter()
                .map(|field| field.field.as_ref())
                .collect();
            let failure = Failure::new(format!(
                "it still differs after it was changed: {}",
                fields.join(", ")
            ))
            .hint("another program on this host changes it back, or its description is impossible");
            return Ok(ResourceResult::Failed(Some(change), failure));
        }
        if seen.run.is_some() && !resource.triggers.is_empty() && change.touches("running") {
            // It has just started, with everything that is on disk now.
            self.update_record(resource, seen.run.as_ref(), &[Duty::Restart, Duty::Reload])?;
        }
        Ok(ResourceResult::Changed(change))
    }

    fn set_stamp(&mut self, id: &str, stamp: Option<crate::resource::Stamp>) {
        match stamp {
            Some(stamp) => self.stamps.insert(id.to_owned(), stamp),
            None => self.stamps.remove(id),
        };
    }

    fn failed_dependency<'r>(&self, resource: &'r Resource) -> Option<&'r str> {
        let triggers = resource.triggers.iter().flat_map(|trigger| &trigger.on);
        let mut on = triggers.chain(&resource.requires);
        on.find(|id| self.failed.contains(*id)).map(String::as_str)
    }

    /// Marks a reported change as failed, because a check rolled its file back.
    fn mark_failed(
        &mut self,
        id: &str,
        failure: Failure,
        done: &mut [AppliedResource],
        catalog: &Catalog,
    ) {
        self.failed.insert(id.to_owned());
        if let Some(resource) = catalog.find(id)
            && let Ok(seen) = resource.body.inspect(self.host, resource.watched)
        {
            self.set_stamp(id, seen.stamp);
        }
        if let Some(entry) = done.iter_mut().find(|entry| entry.id == id) {
            let before = std::mem::replace(&mut entry.result, ResourceResult::Unchanged);
            let change = match before {
                ResourceResult::Changed(change) | ResourceResult::Failed(Some(change), _) => {
                    Some(change)
                }
                _ => None,
            };
            entry.result = ResourceResult::Failed(change, failure);
        }
    }

    /// Fulfills the obligations of a resource, or records why not.
    fn fulfill_duties(
        &mut self,
        resource: &Resource,
        entry: &mut AppliedResource,
    ) -> std::result::Result<(), RootError> {
        let run = match &entry.result {
            ResourceResult::Failed(..) | ResourceResult::Skipped(_) => None,
            _ => resource
                .body
                .inspect(self.host, resource.watched)
                .ok()
                .and_then(|seen| seen.run),
        };
        let record = self.ledger.read(&resource.id);
        let debts = owed::due_obligations(
            record.as_ref(),
            run.as_ref(),
            &resource.triggers,
            &self.stamps,
        );
        let mut paid = Vec::new();
        for debt in without_redundant_reloads(debts) {
            let blocked = match &entry.result {
                ResourceResult::Failed(..) | ResourceResult::Skipped(_) => {
                    Some("the resource itself failed".to_owned())
                }
                ResourceResult::Waiting(_, why) => Some(why.clone()),
                _ if self.host.stop.is_set() => Some("stopped on request".to_owned()),
                _ => self
                    .failed_dependency(resource)
                    .map(|id| format!("{id} failed")),
            };
            if let Some(why) = blocked {
                entry.owed.push((debt, why));
                continue;
            }
            (self.on_event)(Event::DutyStarted {
                id: &resource.id,
                obligation: &debt,
            });
            let judged = self.checks.require_passing(&debt, self.host);
            match judged.and_then(|()| resource.body.fulfill(debt.duty, self.host)) {
                Ok(()) => {
                    paid.push(debt.duty);
                    // A restart includes a reload.
                    paid.extend((debt.duty == Duty::Restart).then_some(Duty::Reload));
                    entry.fulfilled.push(debt);
                }
                Err(failure) => {
                    entry.owed.push((debt, failure.message.clone()));
                    entry.duty_failure = Some(failure.clone());
                    let change =
                        match std::mem::replace(&mut entry.result, ResourceResult::Unchanged) {
                            ResourceResult::Changed(change) => Some(change),
                            _ => None,
                        };
                    entry.result = ResourceResult::Failed(change, failure);
                    self.failed.insert(resource.id.clone());
                }
            }
        }
        if matches!(
            entry.result,
            ResourceResult::Failed(..) | ResourceResult::Skipped(_)
        ) && paid.is_empty()
        {
            return Ok(());
        }
        let run = resource
            .body
            .inspect(self.host, resource.watched)
            .ok()
            .and_then(|seen| seen.run);
        let is_service = resource
            .triggers
            .iter()
            .any(|trigger| trigger.duty != Duty::Run);
        if run.is_some() || !is_service {
            self.update_record(resource, run.as_ref(), &paid)?;
        }
        Ok(())
    }
}
