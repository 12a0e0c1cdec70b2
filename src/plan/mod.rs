//! What a pass would do: a forecast, made by the same looking and comparing that an apply does.

use std::collections::{BTreeMap, BTreeSet};

use crate::owed::{self, Debt, Ledger, Stamps};
use crate::ports::Host;
use crate::resource::{Change, Duty, Failure, Run, Seen};
use crate::role::{Catalog, Resource};

/// What one look says about one resource.
#[derive(Debug)]
pub enum Forecast {
    Right,
    Change(Change),
    /// A pass would not change it yet, because of this.
    Waiting(Change, String),
    /// It cannot be told before something planned above it has been done.
    Unknown(String),
    Failed(Failure),
}

/// The forecast for one resource.
#[derive(Debug)]
pub struct Step {
    pub id: String,
    pub forecast: Forecast,
    /// What is owed now or will be once the planned changes are made.
    pub debts: Vec<Debt>,
    pub run: Option<Run>,
    /// What is on record about a running service is out of date although nothing may be owed to it:
    /// somebody restarted it, or it was never seen before.
    pub news: bool,
}

impl Step {
    /// Whether there is nothing to do about it.
    fn is_right(&self) -> bool {
        matches!(self.forecast, Forecast::Right) && self.debts.is_empty()
    }
}

/// The forecast for a host, in the order in which a pass would go.
#[derive(Debug)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// What is on disk now.
    pub stamps: Stamps,
    /// The sha that each app is at now.
    pub shas: BTreeMap<String, Option<String>>,
    /// Resources with something to do that changes nothing.
    pub chores: Vec<String>,
    /// What a person should see to, though nothing of it has to change.
    pub warnings: Vec<String>,
}

impl Plan {
    /// Whether a pass would do nothing.
    pub fn is_empty(&self) -> bool {
        self.steps.iter().all(Step::is_right)
    }

    /// Whether a pass would only bring its own records up to date.
    pub fn has_news(&self) -> bool {
        self.steps.iter().any(|step| step.news)
    }

    pub fn failures(&self) -> usize {
        let failed = |step: &&Step| matches!(step.forecast, Forecast::Failed(_));
        self.steps.iter().filter(failed).count()
    }
}

/// Which resources a pass is about.
#[derive(Debug, Clone, Default)]
pub struct Selection(Option<BTreeSet<String>>);

impl Selection {
    pub fn all() -> Selection {
        Selection(None)
    }

    /// Only this resource and those that act when it changes.
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

    pub fn holds(&self, id: &str) -> bool {
        self.0.as_ref().is_none_or(|ids| ids.contains(id))
    }
}

/// Looks at every resource of the selection. Changes nothing.
pub fn build(catalog: &Catalog, host: &Host, selection: &Selection) -> Plan {
    let mut stamps = Stamps::new();
    let mut shas = BTreeMap::new();
    let (mut chores, mut warnings) = (Vec::new(), Vec::new());
    let mut looks = Vec::new();
    // Nothing is changed while everything is looked at, so folders can be kept open meanwhile.
    let _open = host.root.keep_folders_open();
    for resource in &catalog.resources {
        let seen = resource.body.look(host, resource.watched);
        if let Ok(Seen {
            stamp: Some(stamp), ..
        }) = &seen
        {
            stamps.insert(resource.id.clone(), stamp.clone());
        }
        if let Some(app) = resource.body.app() {
            let sha = seen.as_ref().ok().and_then(|seen| seen.sha.clone());
            shas.insert(app.to_owned(), sha);
        }
        if seen.as_ref().is_ok_and(|seen| seen.chores) {
            chores.push(resource.id.clone());
        }
        if let Ok(seen) = &seen {
            let of_it = seen.warnings.iter();
            warnings.extend(of_it.map(|warning| format!("{}: {warning}", resource.id)));
        }
        looks.push((resource, seen));
    }
    let ledger = Some(Ledger::new(&host.root)).filter(|ledger| !ledger.is_hidden());
    if ledger.is_none() {
        warnings.push("what is owed can be seen only by root".to_owned());
    }
    let mut steps: Vec<Step> = Vec::new();
    let mut ailing: BTreeMap<&str, Failure> = BTreeMap::new();
    let mut planned: BTreeSet<&str> = BTreeSet::new();
    for (resource, seen) in looks {
        if !selection.holds(&resource.id) {
            continue;
        }
        if let Ok(Seen {
            change: None,
            ails: Some(failure),
            ..
        }) = &seen
        {
            ailing.insert(&resource.id, failure.clone());
        }
        let (forecast, run) = match dormant(&seen, resource, &planned) {
            Some(waits) => (Forecast::Unknown(waits), None),
            None => forecast(seen, resource, &steps),
        };
        let shows = match &forecast {
            Forecast::Right | Forecast::Waiting(..) | Forecast::Failed(_) => false,
            Forecast::Change(change) => resource.body.shows(change),
            Forecast::Unknown(_) => true,
        };
        if shows {
            planned.insert(&resource.id);
        }
        steps.push(Step {
            id: resource.id.clone(),
            forecast,
            debts: Vec::new(),
            run,
            news: false,
        });
    }
    for step in &mut steps {
        let resource = catalog
            .find(&step.id)
            .expect("the steps were made from the catalog");
        // A restart that is coming may be what mends it.
        if !resource.triggers.is_empty() {
            look_ahead(step, resource, ledger.as_ref(), &planned, &stamps);
        }
        if let Some(failure) = ailing.remove(step.id.as_str()).filter(|_| step.is_right()) {
            step.forecast = Forecast::Failed(failure);
        }
    }
    Plan {
        steps,
        stamps,
        shas,
        chores,
        warnings,
    }
}

/// What is owed to a resource, and what is to be put on record about it.
fn look_ahead(
    step: &mut Step,
    resource: &Resource,
    ledger: Option<&Ledger<'_>>,
    planned: &BTreeSet<&str>,
    stamps: &Stamps,
) {
    let run = step.run.as_ref();
    let Some(ledger) = ledger else {
        step.debts = debts(Vec::new(), resource, run, planned);
        return;
    };
    let record = ledger.read(&resource.id);
    let record = record.as_ref();
    let settled = owed::settle(record, run, &resource.triggers, stamps, &[]);
    step.news = run.is_some() && record != Some(&settled);
    let due = owed::due(record, run, &resource.triggers, stamps);
    step.debts = debts(due, resource, run, planned);
}

/// A service that has nothing to run yet, and will once what is planned before it is done.
fn dormant(
    seen: &Result<Seen, Failure>,
    resource: &Resource,
    planned: &BTreeSet<&str>,
) -> Option<String> {
    let waits = matches!(
        seen,
        Ok(Seen {
            dormant: true,
            change: None,
            ..
        })
    );
    let mut on = resource.triggers.iter().flat_map(|trigger| &trigger.on);
    let comes = on.find(|id| planned.contains(id.as_str()));
    comes
        .filter(|_| waits)
        .map(|id| format!("it starts with what {id} brings"))
}

fn forecast(
    seen: Result<Seen, Failure>,
    resource: &Resource,
    before: &[Step],
) -> (Forecast, Option<Run>) {
    match seen {
        Ok(Seen {
            change: None, run, ..
        }) => (Forecast::Right, run),
        Ok(Seen {
            change: Some(change),
            run,
            ..
        }) => match resource.body.waits(&change) {
            Some(why) => (Forecast::Waiting(change, why), run),
            None => (Forecast::Change(change), run),
        },
        Err(failure) if failure.not_yet => {
            let pending = |step: &&Step| matches!(step.forecast, Forecast::Change(_));
            match before.iter().rev().find(pending) {
                Some(_) => (Forecast::Unknown(failure.message), None),
                None => (Forecast::Failed(failure), None),
            }
        }
        Err(failure) => (Forecast::Failed(failure), None),
    }
}

/// What is owed already, and what the planned changes will make owed.
fn debts(
    mut debts: Vec<Debt>,
    resource: &Resource,
    run: Option<&Run>,
    planned: &BTreeSet<&str>,
) -> Vec<Debt> {
    for trigger in &resource.triggers {
        // A service that does not run will be started with everything in place.
        if trigger.duty != Duty::Run && run.is_none() {
            continue;
        }
        for id in trigger.on.iter().filter(|id| planned.contains(id.as_str())) {
            match debts.iter_mut().find(|debt| debt.duty == trigger.duty) {
                Some(debt) if debt.causes.contains(id) => {}
                Some(debt) => debt.causes.push(id.clone()),
                None => debts.push(Debt {
                    duty: trigger.duty,
                    causes: vec![id.clone()],
                }),
            }
        }
    }
    without_covered(debts)
}

/// A restart takes up everything that a reload would.
pub fn without_covered(mut debts: Vec<Debt>) -> Vec<Debt> {
    if debts.iter().any(|debt| debt.duty == Duty::Restart) {
        debts.retain(|debt| debt.duty != Duty::Reload);
    }
    debts
}
