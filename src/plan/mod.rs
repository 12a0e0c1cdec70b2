//! The plan: a forecast of a pass, made by the same inspection and comparison that an apply does.

use std::collections::{BTreeMap, BTreeSet};

use crate::kind::Condition;
use crate::owed::{self, Obligation, RecordStore, Stamps};
use crate::ports::Host;
use crate::resource::{Change, Duty, Failure, FailureKind, ServiceRun};
use crate::role::{Catalog, Resource};

/// The outcome of one inspection of a resource.
#[derive(Debug)]
pub(crate) enum PlannedOutcome {
    Unchanged,
    Change(Change),
    /// A pass would not make this change yet, for this reason.
    Waiting(Change, String),
    /// Unknown until an earlier planned change has been made.
    Unknown(String),
    Failed(Failure),
}

impl PlannedOutcome {
    /// Whether dependents will see another stamp.
    fn changes_stamp(&self) -> bool {
        match self {
            PlannedOutcome::Unchanged | PlannedOutcome::Waiting(..) | PlannedOutcome::Failed(_) => {
                false
            }
            PlannedOutcome::Change(change) => !change.keeps_stamp,
            PlannedOutcome::Unknown(_) => true,
        }
    }
}

/// The forecast for one resource.
#[derive(Debug)]
pub(crate) struct PlanStep {
    pub id: String,
    pub outcome: PlannedOutcome,
    /// Obligations that are due now, or will be once the planned changes are made.
    pub obligations: Vec<Obligation>,
    pub run: Option<ServiceRun>,
    /// The record of a running service is out of date although nothing may be owed to it: an operator restarted
    /// it, or trueup never recorded it.
    pub record_outdated: bool,
}

impl PlanStep {
    /// Whether a pass would do nothing about it.
    fn is_unchanged(&self) -> bool {
        matches!(self.outcome, PlannedOutcome::Unchanged) && self.obligations.is_empty()
    }
}

/// The forecast for a host, in the order of a pass.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub steps: Vec<PlanStep>,
    /// The stamps of what is on disk now.
    pub stamps: Stamps,
    /// The sha that each app is deployed at now.
    pub deployed_shas: BTreeMap<String, Option<String>>,
    /// Resources with maintenance work, which affects no service.
    pub maintenance: Vec<String>,
    /// The releases that passed their gate only a moment ago.
    pub new_releases: Vec<String>,
    /// Matters that an operator should see to although nothing differs.
    pub warnings: Vec<String>,
    /// Likewise, of resources whose changes do not settle them.
    pub notes: Vec<String>,
}

impl Plan {
    /// Whether a pass would do nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.iter().all(PlanStep::is_unchanged)
    }

    /// Whether a pass would change this resource, or restart, reload or run it.
    pub(crate) fn acts_on(&self, id: &str) -> bool {
        let step = self.steps.iter().find(|step| step.id == id);
        step.is_some_and(|step| {
            let is_quiet = matches!(
                step.outcome,
                PlannedOutcome::Unchanged | PlannedOutcome::Failed(_)
            );
            !is_quiet || !step.obligations.is_empty()
        })
    }

    /// Whether a pass would at least bring its own records up to date.
    pub(crate) fn has_outdated_records(&self) -> bool {
        self.steps.iter().any(|step| step.record_outdated)
    }
}

impl Plan {
    /// Fails the resources that nothing is planned for, for a reason that no change would repair.
    pub(crate) fn mark_failing(&mut self, failing: &BTreeMap<String, Failure>) {
        for step in self.steps.iter_mut().filter(|step| step.is_unchanged()) {
            if let Some(failure) = failing.get(&step.id) {
                step.outcome = PlannedOutcome::Failed(failure.clone());
            }
        }
    }
}

/// The resources that a pass covers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection(Option<BTreeSet<String>>);

impl Selection {
    pub(crate) fn all() -> Selection {
        Selection(None)
    }

    /// This resource and those with a duty when it changes.
    pub(crate) fn only(catalog: &Catalog, id: &str) -> Selection {
        let mut ids = BTreeSet::from([id.to_owned()]);
        for resource in &catalog.resources {
            if resource
                .triggers
                .iter()
                .any(|trigger| trigger.on.iter().any(|on| on == id))
            {
                ids.insert(resource.id.clone());
            }
        }
        Selection(Some(ids))
    }

    pub(crate) fn contains(&self, id: &str) -> bool {
        self.0.as_ref().is_none_or(|ids| ids.contains(id))
    }
}

/// What an inspection found of one resource.
struct Inspected {
    change: Option<Change>,
    condition: Condition,
}

impl Inspected {
    fn run(&self) -> Option<&ServiceRun> {
        self.condition.service()?.run.as_ref()
    }

    fn awaits_dependency(&self) -> bool {
        let service = self.condition.service();
        service.is_some_and(|service| service.awaits_dependency)
    }

    /// Why it is unhealthy although nothing differs.
    fn unhealthy_reason(&self) -> Option<&Failure> {
        let service = self.condition.service().filter(|_| self.change.is_none());
        service?.unhealthy_reason.as_ref()
    }
}

type Inspection<'c> = (&'c Resource, Result<Inspected, Failure>);

/// Inspects every resource of the catalog and plans those of the selection. Changes nothing.
pub(crate) fn build_plan(catalog: &Catalog, host: &Host, selection: &Selection) -> Plan {
    let mut plan = Plan {
        stamps: catalog.restart_requests(),
        ..Plan::default()
    };
    let inspections = inspect_all(catalog, host, &mut plan);
    let ledger = Some(RecordStore::new(&host.root)).filter(|ledger| !ledger.is_unreadable());
    if ledger.is_none() {
        let warning = "only root can see what is owed";
        plan.warnings.push(warning.to_owned());
    }
    let mut unhealthy: BTreeMap<&str, Failure> = BTreeMap::new();
    // The resources whose stamps the plan will change.
    let mut planned: BTreeSet<&str> = BTreeSet::new();
    for (resource, inspected) in inspections {
        if !selection.contains(&resource.id) {
            continue;
        }
        let reason = inspected
            .as_ref()
            .ok()
            .and_then(Inspected::unhealthy_reason);
        unhealthy.extend(reason.map(|reason| (resource.id.as_str(), reason.clone())));
        let step = plan_step(resource, inspected, &planned, &plan.steps);
        if step.outcome.changes_stamp() {
            planned.insert(&resource.id);
        }
        plan.steps.push(step);
    }
    for step in &mut plan.steps {
        let resource = catalog
            .find(&step.id)
            .expect("the steps were made from the catalog");
        // A restart that is due may repair an unhealthy service, so obligations come first.
        if !resource.triggers.is_empty() {
            plan_obligations(step, resource, ledger.as_ref(), &planned, &plan.stamps);
        }
        let reason = unhealthy.remove(step.id.as_str());
        if let Some(failure) = reason.filter(|_| step.is_unchanged()) {
            step.outcome = PlannedOutcome::Failed(failure);
        }
    }
    plan
}

/// Inspects every resource. What concerns the host as a whole goes into the plan.
fn inspect_all<'c>(catalog: &'c Catalog, host: &Host, plan: &mut Plan) -> Vec<Inspection<'c>> {
    // Nothing changes during the inspection, so open folders can be cached meanwhile.
    let _open = host.root.cache_folders();
    let mut inspections = Vec::new();
    for resource in &catalog.resources {
        let observed = resource.inspect(host);
        let id = &resource.id;
        if let Ok(observed) = &observed
            && resource.watched
            && let Some(stamp) = observed.stamp()
        {
            plan.stamps.insert(id.clone(), stamp);
        }
        let inspected = observed.map(|observed| {
            let (change, condition) = observed.into_parts();
            Inspected { change, condition }
        });
        let condition = inspected
            .as_ref()
            .ok()
            .map(|inspected| &inspected.condition);
        let release = condition.and_then(Condition::release);
        if let Some(app) = resource.app() {
            let sha = release.and_then(|release| release.sha.clone());
            plan.deployed_shas.insert(app.to_owned(), sha);
        }
        if let Some(release) = release {
            if release.needs_maintenance {
                plan.maintenance.push(id.clone());
            }
            if release.is_new {
                plan.new_releases.push(id.clone());
            }
            let warnings = release.warnings.iter();
            let warnings = warnings.map(|warning| format!("{id}: {warning}"));
            plan.warnings.extend(warnings);
        }
        let service = condition.and_then(Condition::service);
        if service.is_some_and(|service| service.needs_maintenance) {
            plan.maintenance.push(id.clone());
        }
        if let Some(Condition::Noted(notes)) = condition {
            plan.notes
                .extend(notes.iter().map(|note| format!("{id}: {note}")));
        }
        let inspected = match &resource.unresolved {
            Some(failure) => Err(failure.clone()),
            None => inspected,
        };
        inspections.push((resource, inspected));
    }
    inspections
}

fn plan_step(
    resource: &Resource,
    inspected: Result<Inspected, Failure>,
    planned: &BTreeSet<&str>,
    before: &[PlanStep],
) -> PlanStep {
    let (outcome, run) = match pending_start_reason(&inspected, resource, planned) {
        Some(reason) => (PlannedOutcome::Unknown(reason), None),
        None => planned_outcome(inspected, before),
    };
    PlanStep {
        id: resource.id.clone(),
        outcome,
        obligations: Vec::new(),
        run,
        record_outdated: false,
    }
}

/// Sets the step's obligations, and whether its record is out of date.
fn plan_obligations(
    step: &mut PlanStep,
    resource: &Resource,
    ledger: Option<&RecordStore<'_>>,
    planned: &BTreeSet<&str>,
    stamps: &Stamps,
) {
    let run = step.run.as_ref();
    let Some(ledger) = ledger else {
        step.obligations = with_planned_obligations(Vec::new(), resource, run, planned);
        return;
    };
    let record = ledger.read(&resource.id);
    let record = record.as_ref();
    let settled = owed::updated_record(record, run, &resource.triggers, stamps, &[]);
    step.record_outdated = run.is_some() && record != Some(&settled);
    let due = owed::due_obligations(record, run, &resource.triggers, stamps);
    step.obligations = with_planned_obligations(due, resource, run, planned);
}

/// Why a service that has nothing to run yet will start: an earlier planned change provides it.
fn pending_start_reason(
    inspected: &Result<Inspected, Failure>,
    resource: &Resource,
    planned: &BTreeSet<&str>,
) -> Option<String> {
    let inspected = inspected.as_ref().ok()?;
    if inspected.change.is_some() || !inspected.awaits_dependency() {
        return None;
    }
    let mut on = resource.triggers.iter().flat_map(|trigger| &trigger.on);
    let provider = on.find(|id| planned.contains(id.as_str()))?;
    Some(format!("it starts once {provider} is applied"))
}

fn planned_outcome(
    inspected: Result<Inspected, Failure>,
    before: &[PlanStep],
) -> (PlannedOutcome, Option<ServiceRun>) {
    match inspected {
        Ok(inspected) => {
            let run = inspected.run().cloned();
            let outcome = match inspected.change {
                None => PlannedOutcome::Unchanged,
                Some(change) => match change.hold_reason().map(str::to_owned) {
                    Some(why) => PlannedOutcome::Waiting(change, why),
                    None => PlannedOutcome::Change(change),
                },
            };
            (outcome, run)
        }
        Err(failure) if failure.is(FailureKind::NotReady) => {
            let is_change = |step: &PlanStep| matches!(step.outcome, PlannedOutcome::Change(_));
            match before.iter().any(is_change) {
                true => (PlannedOutcome::Unknown(failure.message), None),
                false => (PlannedOutcome::Failed(failure), None),
            }
        }
        Err(failure) => (PlannedOutcome::Failed(failure), None),
    }
}

/// Adds the obligations that the planned changes will cause.
fn with_planned_obligations(
    mut obligations: Vec<Obligation>,
    resource: &Resource,
    run: Option<&ServiceRun>,
    planned: &BTreeSet<&str>,
) -> Vec<Obligation> {
    for trigger in &resource.triggers {
        // A stopped service will be started with everything in place.
        if trigger.duty != Duty::Run && run.is_none() {
            continue;
        }
        for id in trigger.on.iter().filter(|id| planned.contains(id.as_str())) {
            match obligations
                .iter_mut()
                .find(|obligation| obligation.duty == trigger.duty)
            {
                Some(obligation) if obligation.causes.contains(id) => {}
                Some(obligation) => obligation.causes.push(id.clone()),
                None => obligations.push(Obligation {
                    duty: trigger.duty,
                    causes: vec![id.clone()],
                }),
            }
        }
    }
    without_redundant_reloads(obligations)
}

/// Drops reloads where a restart is due, which includes them.
pub(crate) fn without_redundant_reloads(mut obligations: Vec<Obligation>) -> Vec<Obligation> {
    if obligations
        .iter()
        .any(|obligation| obligation.duty == Duty::Restart)
    {
        obligations.retain(|obligation| obligation.duty != Duty::Reload);
    }
    obligations
}
