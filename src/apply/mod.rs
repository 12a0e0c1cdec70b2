//! Applies a plan: changes every resource in order, then fulfills what is owed.
//!
//! Each resource is inspected again just before it is changed, because earlier ones may have changed what the
//! plan saw. A failure of a resource is report data: its dependents are skipped, all others still converge.

mod after_gate;
mod bake;
mod covered_files;
mod drain;
mod duties;
mod fleet;
mod followers;
mod readiness;
mod records;
mod restart;
mod restart_request;
mod result;
mod rollback;
mod services;
mod trial;
mod validation;
mod view;

use std::collections::BTreeMap;

use crate::kind::Observation;
use crate::owed::{Obligation, RecordStore};
use crate::plan::{Plan, Selection};
use crate::ports::Host;
use crate::ports::root::RootError;
use crate::resource::{ApplyOutcome, Change, Duty, DutyOutcome, Failure, FailureKind, Verb};
use crate::role::{Catalog, Resource};
pub(crate) use bake::repeat_trials;
pub(crate) use covered_files::{check_covered_files, known_failing_checks};
use followers::Followers;
pub(crate) use restart::{AppRestart, RestartParams, ServiceRestart, restart};
pub(crate) use restart_request::has_restarted;
pub(crate) use result::{AppliedResource, ResourceResult};
use validation::ValidatedSets;
pub(crate) use validation::{recover_interrupted, run_check};
use view::HostView;

/// Hint for a quarantined sha.
const LIFT_HINT: &str =
    "publish another sha; or, if the cause is fixed, `trueup converge --lift-quarantine REASON`";

/// The hint of the cause, followed by what to do then.
fn after_hint(cause: &Failure, hint: &str) -> String {
    match &cause.hint {
        Some(cause) => format!("{cause}; then {hint}"),
        None => hint.to_owned(),
    }
}

/// The tracing target of events about resources. Each event is inside the span of its resource, which has the
/// resource, its app and the wanted sha as fields: see [`resource_span`].
pub(crate) const RESOURCE_TARGET: &str = "trueup::resource";

/// The span for all events about a resource.
pub(crate) fn resource_span(
    resource: &Resource,
    catalog: &Catalog,
    shas: &BTreeMap<String, String>,
) -> tracing::Span {
    let app = catalog.app_of(resource);
    let sha = app.and_then(|app| shas.get(app)).map(String::as_str);
    tracing::info_span!("resource", resource = resource.id, app, sha)
}

/// Progress to report during a pass.
#[derive(Clone, Copy)]
pub(crate) enum Event<'a> {
    /// Not sent for a withheld change: the report shows it with its reason.
    ChangeStarted { id: &'a str, change: &'a Change },
    DutyStarted {
        id: &'a str,
        obligation: &'a Obligation,
    },
    DutyFulfilled {
        id: &'a str,
        obligation: &'a Obligation,
        outcome: &'a DutyOutcome,
    },
    /// A release is active and has to show that it works.
    TrialStarted { id: &'a str },
    /// A trial reached its next step.
    TrialProgress { id: &'a str, message: &'a str },
    /// A release failed: it was not activated, or what served before is about to be restored. `why` is one line.
    ReleaseFailed {
        id: &'a str,
        why: &'a str,
        /// It failed its gate or its preflight, and not before.
        is_bad: bool,
    },
}

/// The inputs of [`apply`] besides the host.
pub(crate) struct ApplyParams<'a> {
    pub catalog: &'a Catalog,
    pub plan: &'a Plan,
    pub selection: &'a Selection,
    /// The wanted sha of each app, for the log.
    pub wanted_shas: &'a BTreeMap<String, String>,
    pub on_event: &'a mut dyn FnMut(Event<'_>),
}

/// Carries out a plan. `Err` means that trueup's own bookkeeping failed, after which nothing more is changed;
/// failures of resources are in the list.
pub(crate) fn apply(
    params: ApplyParams<'_>,
    host: &Host,
) -> Result<Vec<AppliedResource>, RootError> {
    let catalog = params.catalog;
    let resources = catalog.resources.iter();
    let resources = resources.filter(|resource| params.selection.contains(&resource.id));
    let resources: Vec<&Resource> = resources.collect();
    let mut applier = Applier::new(catalog, params.plan, host, params.on_event);
    applier.record_running_services(params.plan)?;
    for resource in &resources {
        let _span = resource_span(resource, catalog, params.wanted_shas).entered();
        applier.apply_resource(resource)?;
    }
    for resource in &resources {
        let _span = resource_span(resource, catalog, params.wanted_shas).entered();
        applier.fulfill_duties(resource)?;
    }
    for resource in &resources {
        let _span = resource_span(resource, catalog, params.wanted_shas).entered();
        applier.finish_trial(resource)?;
    }
    let failing = check_covered_files(catalog, host, Some(&applier.validation.passed()))?;
    for resource in &resources {
        applier.fail_if_unhealthy(resource, failing.get(&resource.id));
    }
    // A host that never converges has such work too.
    let services = resources
        .iter()
        .filter_map(|resource| resource.body.service());
    for service in services.take_while(|_| !host.stop.is_set()) {
        service.maintain(host);
    }
    let mut results = applier.results;
    let in_order = resources
        .iter()
        .filter_map(|resource| results.remove(&*resource.id));
    Ok(in_order.collect())
}

/// Does maintenance work on a converged host. Logs failures, which affect no service.
pub(crate) fn run_maintenance(catalog: &Catalog, plan: &Plan, host: &Host) {
    for resource in plan.maintenance.iter().filter_map(|id| catalog.find(id)) {
        if host.stop.is_set() {
            return;
        }
        let _operation = resource.body.begin_operation();
        if let Some(service) = resource.body.service() {
            service.maintain(host);
        }
        let spec = resource.body.release();
        if let Some(Err(failure)) = spec.map(|spec| crate::release::finish_cleanup(spec, host)) {
            tracing::warn!("{}: {failure}", resource.id);
        }
    }
}

struct Applier<'a> {
    catalog: &'a Catalog,
    host: &'a Host,
    view: HostView<'a>,
    validation: ValidatedSets<'a>,
    records: RecordStore<'a>,
    followers: Followers<'a>,
    /// Of each resource that was applied, by its id.
    results: BTreeMap<&'a str, AppliedResource>,
    on_event: &'a mut dyn FnMut(Event<'_>),
}

impl<'a> Applier<'a> {
    fn new(
        catalog: &'a Catalog,
        plan: &Plan,
        host: &'a Host,
        on_event: &'a mut dyn FnMut(Event<'_>),
    ) -> Applier<'a> {
        Applier {
            catalog,
            host,
            view: HostView::new(host, plan.stamps.clone()),
            validation: ValidatedSets::new(catalog),
            records: RecordStore::new(&host.root),
            followers: Followers::default(),
            results: BTreeMap::new(),
            on_event,
        }
    }

    /// Changes one resource, and validates the set of files that ends with it.
    fn apply_resource(&mut self, resource: &'a Resource) -> Result<(), RootError> {
        let result = self.change_resource(resource)?;
        self.announce_release(resource, &result);
        let entry = AppliedResource::new(&resource.id, result);
        self.results.insert(&resource.id, entry);
        for (id, failure) in self
            .validation
            .validate_completed_sets(&resource.id, self.host)?
        {
            self.view.forget();
            self.fail_rolled_back(&id, failure);
        }
        Ok(())
    }

    /// Announces where the change of a release led to.
    fn announce_release(&mut self, resource: &'a Resource, result: &ResourceResult) {
        if resource.body.release().is_none() {
            return;
        }
        let id = &*resource.id;
        match result {
            ResourceResult::Changed(_) if self.view.trial(resource).is_some() => {
                (self.on_event)(Event::TrialStarted { id });
            }
            ResourceResult::Failed(_, failure) | ResourceResult::RolledBack(_, failure)
                if !failure.is(FailureKind::Stopped) =>
            {
                (self.on_event)(Event::ReleaseFailed {
                    id,
                    why: &failure.summary(),
                    is_bad: matches!(result, ResourceResult::RolledBack(..)),
                });
            }
            _ => {}
        }
    }

    fn change_resource(&mut self, resource: &'a Resource) -> Result<ResourceResult, RootError> {
        if self.host.stop.is_set() {
            return Ok(ResourceResult::stopped());
        }
        let observed = match self.view.observe(resource) {
            Ok(observed) => observed,
            Err(failure) => return Ok(ResourceResult::Failed(None, failure)),
        };
        if let Some(failure) = &resource.unresolved {
            return Ok(ResourceResult::Failed(None, failure.clone()));
        }
        let Some(change) = observed.change().cloned() else {
            return Ok(ResourceResult::Unchanged);
        };
        if let Some(broken) = self.broken_dependency(resource) {
            return Ok(ResourceResult::Skipped(format!(
                "it depends on {broken}, which failed"
            )));
        }
        if change.sets_running
            && change.withheld.is_none()
            && let Some(why) = self.defer_to_gate(resource)
        {
            return Ok(ResourceResult::Waiting(change, why));
        }
        if let Some(result) = self.ask_fleet(resource, &*observed, &change) {
            return Ok(result);
        }
        if change.withheld.is_none() {
            (self.on_event)(Event::ChangeStarted {
                id: &resource.id,
                change: &change,
            });
        }
        if let Err(error) = self.validation.save_before_change(resource, self.host) {
            return Ok(ResourceResult::Failed(Some(change), error.into()));
        }
        let outcome = observed.apply(self.host);
        self.view.forget();
        Ok(match outcome {
            Ok(ApplyOutcome::Waiting(why)) => ResourceResult::Waiting(change, why),
            Ok(ApplyOutcome::RefusedByFleet(failure)) => {
                ResourceResult::RolledBack(change, failure)
            }
            Ok(ApplyOutcome::Refused(failure)) => {
                let hint = after_hint(&failure, LIFT_HINT);
                ResourceResult::RolledBack(change, failure.hint(hint))
            }
            Ok(ApplyOutcome::Done) => self.verify_change(resource, change)?,
            Ok(ApplyOutcome::DoneAs(change)) => self.verify_change(resource, change)?,
            Err(failure) => ResourceResult::Failed(Some(change), failure),
        })
    }

    /// Inspects a resource again after its change: only an observed result counts as done.
    fn verify_change(
        &mut self,
        resource: &'a Resource,
        change: Change,
    ) -> Result<ResourceResult, RootError> {
        let observed = match self.view.observe(resource) {
            Ok(observed) => observed,
            Err(failure) => return Ok(ResourceResult::Failed(Some(change), failure)),
        };
        // A release on trial is settled after everything that uses it was restarted, and the next one is built ahead by
        // the next pass.
        let is_later = |rest: &&Change| rest.verb == Verb::Build && change.verb != Verb::Build;
        let rest = observed.change().filter(|_| !is_on_trial(&*observed));
        if let Some(rest) = rest.filter(|rest| !is_later(rest)) {
            let fields: Vec<&str> = rest.fields.iter().map(|field| &*field.field).collect();
            let fields = fields.join(", ");
            let failure = Failure::new(format!("it still differs after it was changed: {fields}"))
                .hint("another program on this host changes it back, or its description is impossible");
            return Ok(ResourceResult::Failed(Some(change), failure));
        }
        if change.sets_running && !resource.triggers.is_empty() {
            let run = self.view.run(resource);
            if run.is_some() {
                // It has just started, with everything that is on disk now.
                self.update_record(resource, run.as_ref(), &[Duty::Restart, Duty::Reload])?;
            }
        }
        Ok(ResourceResult::Changed(change))
    }

    fn broken_dependency<'r>(&self, resource: &'r Resource) -> Option<&'r str> {
        let triggers = resource.triggers.iter().flat_map(|trigger| &trigger.on);
        let mut on = triggers.chain(&resource.requires);
        on.find(|id| self.is_broken(id)).map(String::as_str)
    }

    fn is_broken(&self, id: &str) -> bool {
        let entry = self.results.get(id);
        entry.is_some_and(|entry| entry.result.is_broken())
    }

    /// The result of a resource that was applied.
    fn result_mut(&mut self, resource: &Resource) -> &mut AppliedResource {
        let entry = self.results.get_mut(&*resource.id);
        entry.expect("every selected resource is applied before its duties and its trial")
    }

    /// Marks a reported change as failed, because a check rolled its file back.
    fn fail_rolled_back(&mut self, id: &str, failure: Failure) {
        if let Some(resource) = self.catalog.find(id) {
            self.view.refresh_stamp(resource);
        }
        if let Some(entry) = self.results.get_mut(id) {
            entry.fail(failure);
        }
    }

    /// Fails a resource that is unhealthy, or concerned by a check that fails, and was not changed. Runs last and does
    /// not skip its dependents, whose changes may be the repair.
    fn fail_if_unhealthy(&mut self, resource: &'a Resource, failing_check: Option<&Failure>) {
        let entry = self.result_mut(resource);
        let is_unchanged = matches!(entry.result, ResourceResult::Unchanged);
        if !is_unchanged || !entry.owed.is_empty() {
            return;
        }
        if let Some(failure) = failing_check {
            self.result_mut(resource).result = ResourceResult::Failed(None, failure.clone());
            return;
        }
        if resource.body.service().is_none() {
            return;
        }
        let Ok(observed) = self.view.observe(resource) else {
            return;
        };
        let condition = observed.condition().service();
        if let Some(failure) = condition.and_then(|service| service.unhealthy_reason.clone()) {
            self.result_mut(resource).result = ResourceResult::Failed(None, failure);
        }
    }
}

fn is_on_trial(observed: &dyn Observation) -> bool {
    let release = observed.condition().release();
    release.is_some_and(|release| release.trial.is_some())
}
