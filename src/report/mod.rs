//! Report of a pass, its changes and its outcome: kept on the host, printed for people and as JSON.

mod app_state;
mod history;
pub mod metrics;
pub mod motd;
mod overdue;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::apply;
use crate::desired::{DesiredState, Freshness, Hold};
use crate::exit::Exit;
use crate::owed::Obligation;
use crate::plan::{Plan, PlannedOutcome};
use crate::resource::{Change, FailureKind};
use crate::role::Catalog;

pub use app_state::AppState;
pub use history::{History, PassSummary, TimerPeriod};
pub use overdue::{Overdue, TIMER, check_overdue};
pub use text::{Paint, change_line, diff_lines, obligation_line, summary_line, waiting_lines};

/// Version of the format; readers refuse a newer one.
pub const VERSION: u32 = 1;

/// Outcome of one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResourceStatus {
    Right,
    Changed,
    /// Plan only: a pass would change it.
    Pending,
    /// Plan only: it cannot be inspected yet.
    Unknown,
    Waiting,
    Skipped,
    /// It was rolled back, or its wanted sha is quarantined.
    RolledBack,
    Failed,
}

/// One resource in a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceReport {
    pub id: String,
    pub kind: String,
    pub status: ResourceStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// Why it failed, waits, was skipped or is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Restarts, reloads and runs that the pass performed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paid: Vec<Obligation>,
    /// Those still owed; in a plan, those that a pass would perform.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owed: Vec<Obligation>,
}

/// Number of resources by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub right: usize,
    pub changed: usize,
    pub waiting: usize,
    pub skipped: usize,
    #[serde(default)]
    pub rolled_back: usize,
    pub failed: usize,
    pub restarted: usize,
    pub reloaded: usize,
    pub owed: usize,
}

/// One app of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppReport {
    pub app: String,
    pub wanted: Option<String>,
    /// The sha that `current` points to; `null`: nothing is deployed.
    #[serde(default)]
    pub actual: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The hold in force, with its author, expiry and reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    #[serde(default)]
    pub state: AppState,
    /// Why it is not converged, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The report of one pass, or of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub version: u32,
    /// Id of this run, from its start time.
    pub run: String,
    pub node: String,
    pub environment: String,
    pub started: Timestamp,
    /// In milliseconds.
    pub took_ms: u64,
    pub outcome: Exit,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The store did not answer; the desired state in force dates from then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<Staleness>,
    /// Why trueup refused the manifest in the store; the last good one is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Peer lists that differ in the store: the last good ones are in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept_lists: Vec<String>,
    /// Why publishing the host's record failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untold: Option<String>,
    pub apps: Vec<AppReport>,
    pub counts: Counts,
    /// Every resource that is not simply unchanged.
    pub resources: Vec<ResourceReport>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// A signal stopped the pass before its end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
}

/// Why and since when the desired state may be outdated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staleness {
    pub since: Option<Timestamp>,
    pub why: String,
}

/// Contents of a report besides its resources.
pub struct ReportHeader<'a> {
    pub node: &'a str,
    pub environment: &'a str,
    pub started: Timestamp,
    pub took: Duration,
    pub desired: &'a DesiredState,
    /// Each app of this host with its deployed sha.
    pub apps: BTreeMap<String, Option<String>>,
    pub notes: Vec<String>,
    /// A signal stopped the pass.
    pub stopped: bool,
}

impl Report {
    fn new(
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
            let wanted = desired.apps.get(&app);
            let mut app = AppReport {
                app,
                actual,
                wanted: wanted.map(|wanted| wanted.sha.to_string()),
                reference: wanted.and_then(|wanted| wanted.reference.clone()),
                held: wanted
                    .and_then(|wanted| wanted.hold.as_ref())
                    .map(Hold::description),
                state: AppState::Converged,
                why: None,
            };
            let own = catalog.map(|catalog| catalog.app_resource_ids(&app.app));
            let own = own.unwrap_or_default();
            let own = rows.iter().filter(|row| own.contains(&row.id.as_str()));
            let stale = stale.as_ref().map(|stale: &Staleness| stale.why.as_str());
            (app.state, app.why) =
                app_state::evaluate(&app, own, stale, refused.as_deref(), heading.stopped);
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
            untold: None,
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
    pub fn from_pass(
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
    pub fn from_plan(heading: ReportHeader<'_>, catalog: &Catalog, plan: &Plan) -> Report {
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

    /// Marks the host's record as unpublished, with the reason.
    pub fn mark_unpublished(&mut self, why: String) {
        self.untold = Some(why);
        self.outcome = self.outcome.merge(Exit::Stale);
    }

    fn compute_outcome(&self) -> Exit {
        let mut exit = Exit::Converged;
        if self.stale.is_some() || !self.kept_lists.is_empty() || self.untold.is_some() {
            exit = exit.merge(Exit::Stale);
        }
        if self.refused.is_some() {
            exit = exit.merge(Exit::BadInput);
        }
        for row in &self.resources {
            exit = exit.merge(match row.status {
                ResourceStatus::Right | ResourceStatus::Changed => Exit::Converged,
                ResourceStatus::Pending | ResourceStatus::Unknown => Exit::Pending,
                ResourceStatus::Waiting => Exit::Waiting,
                ResourceStatus::RolledBack => Exit::RolledBack,
                ResourceStatus::Skipped if self.stopped => Exit::Stopped,
                ResourceStatus::Skipped | ResourceStatus::Failed => Exit::Failed,
            });
            if !row.owed.is_empty()
                && matches!(row.status, ResourceStatus::Right | ResourceStatus::Changed)
            {
                exit = exit.merge(match self.stopped {
                    true => Exit::Stopped,
                    false => Exit::Pending,
                });
            }
        }
        exit
    }

    /// Whether the pass changed nothing and converged.
    pub fn is_quiet(&self) -> bool {
        self.outcome == Exit::Converged && self.resources.is_empty()
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
    row.owed = entry.owed.iter().map(|(debt, _)| debt.clone()).collect();
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
    use crate::resource::Duty;
    let of = |status| rows.iter().filter(|row| row.status == status).count();
    let paid = |duty| {
        rows.iter()
            .flat_map(|row| &row.paid)
            .filter(|debt| debt.duty == duty)
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
        restarted: paid(Duty::Restart),
        reloaded: paid(Duty::Reload),
        owed: rows.iter().map(|row| row.owed.len()).sum(),
    }
}

/// `20261121T044301.123Z`: sorts by time and is a valid file name.
pub fn run_name(started: Timestamp) -> String {
    let zoned = started.to_zoned(jiff::tz::TimeZone::UTC);
    zoned.strftime("%Y%m%dT%H%M%S.%3fZ").to_string()
}
