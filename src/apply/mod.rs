//! Making it so: every resource in order, then what is owed.
//!
//! Each resource is looked at again just before it is changed, because those before it may have
//! changed what the plan saw. A resource's failure is report data: those that depend on it are
//! skipped, all others still converge.

mod checks;
mod trial;

use std::collections::{BTreeMap, BTreeSet};

use crate::owed::{self, Debt, Ledger, Stamps};
use crate::plan::{Plan, Selection, without_covered};
use crate::ports::Host;
use crate::ports::root::RootError;
use crate::resource::{Change, Duty, Failure, Outcome, Run};
use crate::role::{Catalog, Resource};
use checks::Checks;
pub use checks::{recover, run_check};

/// What to do about a sha that was found to be bad.
const LIFT: &str =
    "publish another sha; or, if the reason is gone, `trueup converge --lift-quarantine REASON`";

/// The target of events about resources. Each stands in the span of its resource, with what it is, whose
/// it is and the sha that is wanted as fields: see [`span`].
pub const RESOURCE: &str = "trueup::resource";

/// What is told about a resource is told in this span.
pub fn span(
    resource: &Resource,
    catalog: &Catalog,
    shas: &BTreeMap<String, String>,
) -> tracing::Span {
    let app = catalog.app_of(resource);
    let sha = app.and_then(|app| shas.get(app)).map(String::as_str);
    tracing::info_span!("resource", resource = resource.id, app, sha)
}

/// What became of one resource.
#[derive(Debug)]
pub enum Result {
    Right,
    Changed(Change),
    Waiting(Change, String),
    /// It failed its trial, and what was there before is back; or what is wanted did so before.
    RolledBack(Change, Failure),
    Failed(Option<Change>, Failure),
    /// Not looked at or not changed, because of this.
    Skipped(String),
}

/// What became of one resource and of its duties.
#[derive(Debug)]
pub struct Done {
    pub id: String,
    pub result: Result,
    /// Done in this pass.
    pub paid: Vec<Debt>,
    /// Still owed, with what went wrong or is waited for.
    pub owed: Vec<(Debt, String)>,
    /// Why a duty could not be done.
    unpaid: Option<Failure>,
}

/// Something worth telling while a pass goes on.
pub enum Event<'a> {
    Begin {
        id: &'a str,
        change: &'a Change,
    },
    Pay {
        id: &'a str,
        debt: &'a Debt,
    },
    /// Something on trial went on.
    Trial {
        id: &'a str,
        word: &'a str,
    },
}

/// Everything that an apply needs besides the host.
pub struct Task<'a> {
    pub catalog: &'a Catalog,
    pub plan: &'a Plan,
    pub selection: &'a Selection,
    /// The sha that is wanted of each app, for the log.
    pub shas: &'a BTreeMap<String, String>,
    pub observe: &'a mut dyn FnMut(Event<'_>),
}

/// Carries out a plan. An `Err` is a failure of trueup's own bookkeeping, before which nothing more
/// is changed; what goes wrong with a resource is in the list.
pub fn apply(task: Task<'_>, host: &Host) -> std::result::Result<Vec<Done>, RootError> {
    let ledger = Ledger::new(&host.root);
    let mut walk = Walk {
        stamps: task.plan.stamps.clone(),
        checks: Checks::new(task.catalog, host),
        failed: BTreeSet::new(),
        ledger,
        host,
        observe: task.observe,
    };
    walk.record_before(task.catalog, task.plan)?;
    let mut done = Vec::new();
    for resource in task
        .catalog
        .resources
        .iter()
        .filter(|r| task.selection.holds(&r.id))
    {
        let told = span(resource, task.catalog, task.shas).entered();
        let result = walk.resource(resource)?;
        drop(told);
        if matches!(result, Result::Failed(..) | Result::Skipped(_)) {
            walk.failed.insert(resource.id.clone());
        }
        done.push(Done {
            id: resource.id.clone(),
            result,
            paid: Vec::new(),
            owed: Vec::new(),
            unpaid: None,
        });
        for (id, failure) in walk.checks.close_after(&resource.id, host)? {
            walk.fail(&id, failure, &mut done, task.catalog);
        }
    }
    for entry in &mut done {
        let resource = task
            .catalog
            .find(&entry.id)
            .expect("made from the catalog above");
        if !resource.triggers.is_empty() {
            let _told = span(resource, task.catalog, task.shas).entered();
            walk.duties(resource, entry)?;
        }
    }
    walk.trials(task.catalog, task.shas, &mut done)?;
    walk.ailing(task.catalog, &mut done);
    Ok(done)
}

/// Does what is left to do on a host that is right. What goes wrong with it is told and harms nobody.
pub fn do_chores(catalog: &Catalog, plan: &Plan, host: &Host) {
    for resource in plan.chores.iter().filter_map(|id| catalog.find(id)) {
        if host.stop.is_set() {
            return;
        }
        if let Err(failure) = resource.body.do_chores(host) {
            tracing::warn!("{}: {failure}", resource.id);
        }
    }
}

struct Walk<'a> {
    stamps: Stamps,
    checks: Checks<'a>,
    /// Ids that failed or were skipped.
    failed: BTreeSet<String>,
    ledger: Ledger<'a>,
    host: &'a Host,
    observe: &'a mut dyn FnMut(Event<'_>),
}

impl Walk<'_> {
    /// Puts on record what each running service runs with, before anything under it changes.
    fn record_before(&self, catalog: &Catalog, plan: &Plan) -> std::result::Result<(), RootError> {
        for step in plan.steps.iter().filter(|step| step.run.is_some()) {
            let resource = catalog
                .find(&step.id)
                .expect("the steps were made from the catalog");
            if !resource.triggers.is_empty() {
                self.settle(resource, step.run.as_ref(), &[])?;
            }
        }
        Ok(())
    }

    fn settle(
        &self,
        resource: &Resource,
        run: Option<&Run>,
        paid: &[Duty],
    ) -> std::result::Result<(), RootError> {
        let record = self.ledger.read(&resource.id);
        let settled = owed::settle(record.as_ref(), run, &resource.triggers, &self.stamps, paid);
        self.ledger.write(&resource.id, &settled)
    }

    fn resource(&mut self, resource: &Resource) -> std::result::Result<Result, RootError> {
        if self.host.stop.is_set() {
            return Ok(Result::Skipped(
                "trueup was told to stop; the next pass goes on from here".into(),
            ));
        }
        let seen = match resource.body.look(self.host, resource.watched) {
            Ok(seen) => seen,
            Err(failure) => return Ok(Result::Failed(None, failure)),
        };
        self.stamp(&resource.id, seen.stamp);
        let Some(change) = seen.change else {
            return Ok(Result::Right);
        };
        if let Some(broken) = self.broken_dependency(resource) {
            return Ok(Result::Skipped(format!(
                "it depends on {broken}, which failed"
            )));
        }
        (self.observe)(Event::Begin {
            id: &resource.id,
            change: &change,
        });
        if let Err(error) = self.checks.before(resource, self.host) {
            return Ok(Result::Failed(Some(change), error.into()));
        }
        Ok(match resource.body.apply(&change, self.host) {
            Ok(Outcome::Waiting(why)) => Result::Waiting(change, why),
            Ok(Outcome::Refused(why)) => Result::RolledBack(change, Failure::new(why).hint(LIFT)),
            Ok(Outcome::Done) => self.after(resource, change)?,
            Err(failure) => Result::Failed(Some(change), failure),
        })
    }

    /// What nothing was done about, and which is not well. Others that depend on it are not held up:
    /// what they bring may be what mends it.
    fn ailing(&self, catalog: &Catalog, done: &mut [Done]) {
        for entry in done {
            let untouched = matches!(entry.result, Result::Right);
            if !untouched || !entry.paid.is_empty() || !entry.owed.is_empty() {
                continue;
            }
            let resource = catalog.find(&entry.id);
            let seen = resource.and_then(|resource| resource.body.look(self.host, false).ok());
            if let Some(failure) = seen.and_then(|seen| seen.ails) {
                entry.result = Result::Failed(None, failure);
            }
        }
    }

    /// A change that was made is looked at once more: only what is seen counts as done.
    fn after(
        &mut self,
        resource: &Resource,
        change: Change,
    ) -> std::result::Result<Result, RootError> {
        let seen = match resource.body.look(self.host, resource.watched) {
            Ok(seen) => seen,
            Err(failure) => return Ok(Result::Failed(Some(change), failure)),
        };
        self.stamp(&resource.id, seen.stamp);
        // What is on trial is settled once everything that uses it was restarted.
        if let Some(rest) = seen.change.filter(|_| seen.trial.is_none()) {
            let fields: Vec<&str> = rest
                .fields
                .iter()
                .map(|field| field.field.as_ref())
                .collect();
            let failure = Failure::new(format!("it still differs after it was changed: {}", fields.join(", ")))
                .hint("something else on this host changes it back, or it is described in a way that cannot be");
            return Ok(Result::Failed(Some(change), failure));
        }
        if seen.run.is_some() && !resource.triggers.is_empty() && change.touches("running") {
            // It was started just now, with everything that is on disk now.
            self.settle(resource, seen.run.as_ref(), &[Duty::Restart, Duty::Reload])?;
        }
        Ok(Result::Changed(change))
    }

    fn stamp(&mut self, id: &str, stamp: Option<crate::resource::Stamp>) {
        match stamp {
            Some(stamp) => self.stamps.insert(id.to_owned(), stamp),
            None => self.stamps.remove(id),
        };
    }

    fn broken_dependency<'r>(&self, resource: &'r Resource) -> Option<&'r str> {
        let triggers = resource.triggers.iter().flat_map(|trigger| &trigger.on);
        let mut on = triggers.chain(&resource.requires);
        on.find(|id| self.failed.contains(*id)).map(String::as_str)
    }

    /// A check put a file back: what was reported as changed has failed.
    fn fail(&mut self, id: &str, failure: Failure, done: &mut [Done], catalog: &Catalog) {
        self.failed.insert(id.to_owned());
        if let Some(resource) = catalog.find(id)
            && let Ok(seen) = resource.body.look(self.host, resource.watched)
        {
            self.stamp(id, seen.stamp);
        }
        if let Some(entry) = done.iter_mut().find(|entry| entry.id == id) {
            let before = std::mem::replace(&mut entry.result, Result::Right);
            let change = match before {
                Result::Changed(change) | Result::Failed(Some(change), _) => Some(change),
                _ => None,
            };
            entry.result = Result::Failed(change, failure);
        }
    }

    /// Pays what is owed to a resource, or says why not.
    fn duties(
        &mut self,
        resource: &Resource,
        entry: &mut Done,
    ) -> std::result::Result<(), RootError> {
        let run = match &entry.result {
            Result::Failed(..) | Result::Skipped(_) => None,
            _ => resource
                .body
                .look(self.host, resource.watched)
                .ok()
                .and_then(|seen| seen.run),
        };
        let record = self.ledger.read(&resource.id);
        let debts = owed::due(
            record.as_ref(),
            run.as_ref(),
            &resource.triggers,
            &self.stamps,
        );
        let mut paid = Vec::new();
        for debt in without_covered(debts) {
            let blocked = match &entry.result {
                Result::Failed(..) | Result::Skipped(_) => {
                    Some("the resource itself failed".to_owned())
                }
                Result::Waiting(_, why) => Some(why.clone()),
                _ if self.host.stop.is_set() => Some("trueup was told to stop".to_owned()),
                _ => self
                    .broken_dependency(resource)
                    .map(|id| format!("{id} failed")),
            };
            if let Some(why) = blocked {
                entry.owed.push((debt, why));
                continue;
            }
            (self.observe)(Event::Pay {
                id: &resource.id,
                debt: &debt,
            });
            let judged = self.checks.allow(&debt, self.host);
            match judged.and_then(|()| resource.body.pay(debt.duty, self.host)) {
                Ok(()) => {
                    paid.push(debt.duty);
                    // A restart takes up what a reload would.
                    paid.extend((debt.duty == Duty::Restart).then_some(Duty::Reload));
                    entry.paid.push(debt);
                }
                Err(failure) => {
                    entry.owed.push((debt, failure.message.clone()));
                    entry.unpaid = Some(failure.clone());
                    let change = match std::mem::replace(&mut entry.result, Result::Right) {
                        Result::Changed(change) => Some(change),
                        _ => None,
                    };
                    entry.result = Result::Failed(change, failure);
                    self.failed.insert(resource.id.clone());
                }
            }
        }
        if matches!(entry.result, Result::Failed(..) | Result::Skipped(_)) && paid.is_empty() {
            return Ok(());
        }
        let run = resource
            .body
            .look(self.host, resource.watched)
            .ok()
            .and_then(|seen| seen.run);
        let is_service = resource
            .triggers
            .iter()
            .any(|trigger| trigger.duty != Duty::Run);
        if run.is_some() || !is_service {
            self.settle(resource, run.as_ref(), &paid)?;
        }
        Ok(())
    }
}
