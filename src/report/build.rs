//! Makes a report of a pass or of a plan.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::evaluate::evaluate;
use super::{
    AppReport, AppState, Counts, Report, ResourceReport, ResourceStatus, Staleness, VERSION,
    run_name,
};
use crate::apply;
use crate::desired::{DesiredState, Freshness, Hold};
use crate::exit::Exit;
use crate::plan::{Plan, PlannedOutcome};
use crate::policy::PolicyStatus;
use crate::resource::{Duty, FailureKind};
use crate::role::Catalog;

/// Contents of a report besides its resources.
pub(crate) struct ReportHeader<'a> {
    pub node: &'a str,
    pub environment: &'a str,
    pub started: Timestamp,
    pub took: Duration,
    pub desired: &'a DesiredState,
    /// Each app of this host with its deployed sha.
    pub apps: BTreeMap<String, Option<String>>,
    /// The apps in maintenance, each with a line about it.
    pub maintenance: BTreeMap<String, String>,
    /// `None`: this host has no policy bundle, and is to have none.
    pub policy: Option<PolicyStatus>,
    pub notes: Vec<String>,
    /// A signal stopped the pass.
    pub stopped: bool,
}

impl Report {
    pub(super) fn new(
        heading: ReportHeader<'_>,
        rows: Vec<ResourceReport>,
        resources: usize,
        catalog: Option<&Catalog>,
    ) -> Report {
        let desired = heading.desired;
        let (stale, refused) = match &desired.freshness {
            Freshness::Fresh => (None, None),
            Freshness::Stale { since, why } => (
                Some(Staleness {
                    since: *since,
                    why: why.clone(),
                }),
                None,
            ),
            Freshness::Refused(problem) => (None, Some(problem.to_string())),
        };
        let apps = heading.apps.into_iter().map(|(app, actual)| {
            let mut app = AppReport::new(app, actual, desired);
            app.maintenance = heading.maintenance.get(&app.app).cloned();
            let ids = catalog.map(|catalog| catalog.app_resource_ids(&app.app));
            let ids = ids.unwrap_or_default();
            let app_rows = rows.iter().filter(|row| ids.contains(&row.id.as_str()));
            let stale = stale.as_ref().map(|stale: &Staleness| stale.why.as_str());
            let stopped = heading.stopped;
            (app.state, app.why) = evaluate(&app, app_rows, stale, refused.as_deref(), stopped);
            app
        });
        let apps = apps.collect();
        let mut warnings = heading.notes;
        warnings.extend(desired.warnings.iter().map(|problem| problem.to_string()));
        let counts = count_rows(&rows, resources);
        let mut report = Report {
            version: VERSION,
            run: run_name(heading.started),
            node: heading.node.to_owned(),
            environment: heading.environment.to_owned(),
            started: heading.started,
            took_ms: u64::try_from(heading.took.as_millis()).unwrap_or(u64::MAX),
            outcome: Exit::Converged,
            generation: desired.generation,
            stale,
            refused,
            kept_lists: desired.kept_lists.clone(),
            publish_error: None,
            policy: heading.policy,
            apps,
            counts,
            resources: rows,
            warnings,
            stopped: heading.stopped,
        };
        report.outcome = report.compute_outcome();
        report
    }

    /// The report of a pass that applied changes.
    pub(crate) fn from_pass(
        heading: ReportHeader<'_>,
        catalog: &Catalog,
        done: Vec<apply::AppliedResource>,
    ) -> Report {
        let total = done.len();
        let rows = done
            .into_iter()
            .map(|entry| resource_report(entry, catalog));
        let rows = rows.filter(|row| {
            row.status != ResourceStatus::Right || !row.paid.is_empty() || !row.owed.is_empty()
        });
        Report::new(heading, rows.collect(), total, Some(catalog))
    }

    /// The report of a plan; also of a pass that found nothing to do.
    pub(crate) fn from_plan(heading: ReportHeader<'_>, catalog: &Catalog, plan: &Plan) -> Report {
        let rows = plan.steps.iter().filter_map(|step| {
            let mut row = ResourceReport::unchanged(&step.id, catalog);
            row.owed = step.obligations.clone();
            match &step.outcome {
                PlannedOutcome::Unchanged if row.owed.is_empty() => return None,
                PlannedOutcome::Unchanged => {}
                PlannedOutcome::Change(change) => {
                    row.status = ResourceStatus::Pending;
                    row.change = Some(change.clone());
                }
                PlannedOutcome::Waiting(change, why) => {
                    row.status = ResourceStatus::Waiting;
                    row.change = Some(change.clone());
                    row.why = Some(why.clone());
                }
                PlannedOutcome::Unknown(why) => {
                    row.status = ResourceStatus::Unknown;
                    row.why = Some(why.clone());
                }
                PlannedOutcome::Failed(failure) => {
                    row.status = ResourceStatus::Failed;
                    row.why = Some(failure.message.clone());
                    row.hint = failure.hint.clone();
                }
            }
            Some(row)
        });
        Report::new(heading, rows.collect(), plan.steps.len(), Some(catalog))
    }
}

impl AppReport {
    /// The report of an app before its resources are evaluated.
    fn new(app: String, actual: Option<String>, desired: &DesiredState) -> AppReport {
        let wanted = desired.apps.get(&app);
        let hold = wanted.and_then(|wanted| wanted.hold.as_ref());
        AppReport {
            app,
            actual,
            wanted: wanted.map(|wanted| wanted.sha.to_string()),
            reference: wanted.and_then(|wanted| wanted.reference.clone()),
            held: hold.map(Hold::description),
            maintenance: None,
            state: AppState::Converged,
            why: None,
        }
    }
}

impl ResourceReport {
    fn unchanged(id: &str, catalog: &Catalog) -> ResourceReport {
        let kind = catalog.find(id).map_or("", |resource| resource.body.kind());
        ResourceReport {
            id: id.to_owned(),
            kind: kind.to_owned(),
            status: ResourceStatus::Right,
            change: None,
            why: None,
            hint: None,
            paid: Vec::new(),
            owed: Vec::new(),
        }
    }
}

fn resource_report(entry: apply::AppliedResource, catalog: &Catalog) -> ResourceReport {
    let mut row = ResourceReport::unchanged(&entry.id, catalog);
    row.paid = entry.fulfilled;
    row.owed = entry
        .owed
        .iter()
        .map(|(obligation, _)| obligation.clone())
        .collect();
    row.why = entry.owed.first().map(|(_, why)| why.clone());
    match entry.result {
        apply::ResourceResult::Unchanged => {}
        apply::ResourceResult::Changed(change) => {
            row.status = ResourceStatus::Changed;
            row.change = Some(change);
        }
        apply::ResourceResult::Waiting(change, why) => {
            row.status = ResourceStatus::Waiting;
            row.change = Some(change);
            row.why = Some(why);
        }
        apply::ResourceResult::RolledBack(change, failure) => {
            row.status = ResourceStatus::RolledBack;
            row.change = Some(change);
            row.why = Some(failure.message);
            row.hint = failure.hint;
        }
        apply::ResourceResult::Failed(change, failure) => {
            row.status = match failure.is(FailureKind::Stopped) {
                true => ResourceStatus::Skipped,
                false => ResourceStatus::Failed,
            };
            row.change = change;
            row.why = Some(failure.message);
            row.hint = failure.hint;
        }
        apply::ResourceResult::Skipped(why) => {
            row.status = ResourceStatus::Skipped;
            row.why = Some(why);
        }
    }
    row
}

fn count_rows(rows: &[ResourceReport], resources: usize) -> Counts {
    let of = |status| rows.iter().filter(|row| row.status == status).count();
    let paid = || rows.iter().flat_map(|row| &row.paid);
    let performed = |duty| {
        paid()
            .filter(|paid| paid.obligation.duty == duty && paid.at_runtime.is_none())
            .count()
    };
    let not_right = rows
        .iter()
        .filter(|row| row.status != ResourceStatus::Right)
        .count();
    Counts {
        right: resources - not_right,
        changed: of(ResourceStatus::Changed)
            + of(ResourceStatus::Pending)
            + of(ResourceStatus::Unknown),
        waiting: of(ResourceStatus::Waiting),
        skipped: of(ResourceStatus::Skipped),
        rolled_back: of(ResourceStatus::RolledBack),
        failed: of(ResourceStatus::Failed),
        restarted: performed(Duty::Restart),
        reloaded: performed(Duty::Reload),
        updated_at_runtime: paid().filter(|paid| paid.at_runtime.is_some()).count(),
        owed: rows.iter().map(|row| row.owed.len()).sum(),
        not_inspected: 0,
    }
}
