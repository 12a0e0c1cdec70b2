//! The plan: a forecast of a pass, made by the same inspection and comparison that an apply does.

use std::collections::{BTreeMap, BTreeSet};

use crate::owed::{self, Obligation, RecordStore, Stamps};
use crate::ports::Host;
use crate::resource::{Change, Duty, Failure, ObservedState, ServiceRun};
use crate::role::{Catalog, Resource};

/// The outcome of one inspection of a resource.
#[derive(Debug)]
pub enum PlannedOutcome {
    Unchanged,
    Change(Change),
    /// A pass would not make this change yet, for this reason.
    Waiting(Change, String),
    /// Unknown until an earlier planned change has been made.
    Unknown(String),
    Failed(Failure),
}

/// The forecast for one resource.
#[derive(Debug)]
pub struct PlanStep {
    pub id: String,
    pub outcome: PlannedOutcome,
    /// Obligations that are due now, or will be once the planned changes are made.
    pub obligations: Vec<Obligation>,
    pub run: Option<ServiceRun>,
    /// The record of a running service is out of date although nothing may be owed to it: somebody restarted
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
#[derive(Debug)]
pub struct Plan {
    pub steps: Vec<PlanStep>,
    /// The stamps of what is on disk now.
    pub stamps: Stamps,
    /// The sha that each app is deployed at now.
    pub deployed_shas: BTreeMap<String, Option<String>>,
    /// Resources with maintenance work, which affects no service.
    pub maintenance: Vec<String>,
    /// Matters that an operator should see to although nothing differs.
    pub warnings: Vec<String>,
}

impl Plan {
    /// Whether a pass would do nothing.
    pub fn is_empty(&self) -> bool {
        self.steps.iter().all(PlanStep::is_unchanged)
    }

    /// Whether a pass would at least bring its own records up to date.
    pub fn has_outdated_records(&self) -> bool {
        self.steps.iter().any(|step| step.record_outdated)
    }

    pub fn failures(&self) -> usize {
        let failed = |step: &&PlanStep| matches!(step.outcome, PlannedOutcome::Failed(_));
        self.steps.iter().filter(failed).count()
    }
}

/// The resources that a pass covers.
#[derive(Debug, Clone, Default)]
pub struct Selection(Option<BTreeSet<String>>);

impl Selection {
    pub fn all() -> Selection {
        Selection(None)
    }

    /// This resource and those with a duty when it changes.
    pub fn only(catalog: &Catalog, id: &str) -> Selection {
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

    pub fn contains(&self, id: &str) -> bool {
        self.0.as_ref().is_none_or(|ids| ids.contains(id))
    }
}

/// Inspects every resource of the catalog and plans those of the selection. Changes nothing.
pub fn build_plan(catalog: &Catalog, host: &Host, selection: &Selection) -> Plan {
    let mut stamps = Stamps::new();
    let mut shas = BTreeMap::new();
    let (mut chores, mut warnings) = (Vec::new(), Vec::new());
    let mut looks = Vec::new();
    // Nothing changes during the inspection, so open folders can be cached meanwhile.
    let _open = host.root.cache_folders();
    for resource in &catalog.resources {
        let seen = resource.body.inspect(host, resource.watched);
        if let Ok(ObservedState {
            stamp: Some(stamp), ..
        }) = &seen
        {
            stamps.insert(resource.id.clone(), stamp.clone());
        }
        if let Some(app) = resource.body.app() {
            let sha = seen
                .as_ref()
                .ok()
                .and_then(|seen| seen.deployed_sha.clone());
            shas.insert(app.to_owned(), sha);
        }
        if seen.as_ref().is_ok_and(|seen| seen.needs_maintenance) {
            chores.push(resource.id.clone());
        }
        if let Ok(seen) = &seen {
            let of_it = seen.warnings.iter();
            warnings.extend(of_it.map(|warning| format!("{}: {warning}", resource.id)));
        }
        looks.push((resource, seen));
    }
    let ledger = Some(RecordStore::new(&host.root)).filter(|ledger| !ledger.is_unreadable());
    if ledger.is_none() {
        warnings.push("only root can see what is owed".to_owned());
    }
    let mut steps: Vec<PlanStep> = Vec::new();
    let mut ailing: BTreeMap<&str, Failure> = BTreeMap::new();
    let mut planned: BTreeSet<&str> = BTreeSet::new();
    for (resource, seen) in looks {
        if !selection.contains(&resource.id) {
            continue;
        }
        if let Ok(ObservedState {
            change: None,
            unhealthy_reason: Some(failure),
            ..
        }) = &seen
        {
            ailing.insert(&resource.id, failure.clone());
        }
        let (forecast, run) = match pending_start_reason(&seen, resource, &planned) {
            Some(waits) => (PlannedOutcome::Unknown(waits), None),
            None => planned_outcome(seen, resource, &steps),
        };
        let shows = match &forecast {
            PlannedOutcome::Unchanged | PlannedOutcome::Waiting(..) | PlannedOutcome::Failed(_) => {
                false
            }
            PlannedOutcome::Change(change) => resource.body.changes_stamp(change),
            PlannedOutcome::Unknown(_) => true,
        };
        if shows {
            planned.insert(&resource.id);
        }
        steps.push(PlanStep {
            id: resource.id.clone(),
            outcome: forecast,
            obligations: Vec::new(),
            run,
            record_outdated: false,
        });
    }
    for step in &mut steps {
        let resource = catalog
            .find(&step.id)
            .expect("the steps were made from the catalog");
        // A restart that is due may repair an unhealthy service, so obligations come first.
        if !resource.triggers.is_empty() {
            plan_obligations(step, resource, ledger.as_ref(), &planned, &stamps);
        }
        if let Some(failure) = ailing
            .remove(step.id.as_str())
            .filter(|_| step.is_unchanged())
        {
            step.outcome = PlannedOutcome::Failed(failure);
        }
    }
    Plan {
        steps,
        stamps,
        deployed_shas: shas,
        maintenance: chores,
        warnings,
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
    seen: &Result<ObservedState, Failure>,
    resource: &Resource,
    planned: &BTreeSet<&str>,
) -> Option<String> {
    let waits = matches!(
        seen,
        Ok(ObservedState {
            awaits_dependency: true,
            change: None,
            ..
        })
    );
    let mut on = resource.triggers.iter().flat_map(|trigger| &trigger.on);
    let comes = on.find(|id| planned.contains(id.as_str()));
    comes
        .filter(|_| waits)
        .map(|id| format!("it starts once {id} is applied"))
}

fn planned_outcome(
    seen: Result<ObservedState, Failure>,
    resource: &Resource,
    before: &[PlanStep],
) -> (PlannedOutcome, Option<ServiceRun>) {
    match seen {
        Ok(ObservedState {
            change: None, run, ..
        }) => (PlannedOutcome::Unchanged, run),
        Ok(ObservedState {
            change: Some(change),
            run,
            ..
        }) => match resource.body.waiting_reason(&change) {
            Some(why) => (PlannedOutcome::Waiting(change, why), run),
            None => (PlannedOutcome::Change(change), run),
        },
        Err(failure) if failure.not_ready => {
            let pending = |step: &&PlanStep| matches!(step.outcome, PlannedOutcome::Change(_));
            match before.iter().rev().find(pending) {
                Some(_) => (PlannedOutcome::Unknown(failure.message), None),
                None => (PlannedOutcome::Failed(failure), None),
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
                .find(|debt| debt.duty == trigger.duty)
            {
                Some(debt) if debt.causes.contains(id) => {}
                Some(debt) => debt.causes.push(id.clone()),
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
pub fn without_redundant_reloads(mut obligations: Vec<Obligation>) -> Vec<Obligation> {
    if obligations.iter().any(|debt| debt.duty == Duty::Restart) {
        obligations.retain(|debt| debt.duty != Duty::Reload);
    }
    obligations
}
