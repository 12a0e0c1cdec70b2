//! What a pass did and how it ended: kept on the host, printed for people, given as JSON.

mod history;
mod human;
pub mod metrics;
pub mod motd;
mod overdue;
mod standing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::apply;
use crate::desired::{Desired, Freshness, Hold};
use crate::exit::Exit;
use crate::owed::Debt;
use crate::plan::{Forecast, Plan};
use crate::resource::Change;
use crate::role::Catalog;

pub use history::{History, Last, Rhythm};
pub use human::{Paint, change_lines, debt_line, diff_lines, totals, waiting_lines};
pub use overdue::{Overdue, TIMER, overdue};
pub use standing::AppState;

/// The version of the format; a reader refuses a newer one.
pub const VERSION: u32 = 1;

/// What became of one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Right,
    Changed,
    /// Plan only: it would be changed.
    Pending,
    /// Plan only: it cannot be told yet.
    Unknown,
    Waiting,
    Skipped,
    /// It was rolled back, or what is wanted is quarantined.
    RolledBack,
    Failed,
}

/// One resource in a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub id: String,
    pub kind: String,
    pub status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// Why it failed, waits, was skipped or is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Restarts, reloads and runs that were done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paid: Vec<Debt>,
    /// Those that are still owed; in a plan, those that a pass would do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owed: Vec<Debt>,
}

/// How many resources ended how.
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
pub struct App {
    pub app: String,
    pub wanted: Option<String>,
    /// What `current` points to; `null`: nothing is deployed.
    #[serde(default)]
    pub actual: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The hold of the manifest that is in force, with who, until when and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    #[serde(default)]
    pub state: AppState,
    /// Why it is not converged, in a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The report of one pass, or of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub version: u32,
    /// Names this run: when it began.
    pub run: String,
    pub node: String,
    pub environment: String,
    pub started: Timestamp,
    /// In milliseconds.
    pub took_ms: u64,
    pub outcome: Exit,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The store did not answer; what is in force is from then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<Stale>,
    /// The manifest in the store was refused; the last good one is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Lists of peers that the store has otherwise now: the last good ones are in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept_lists: Vec<String>,
    /// Why peers do not learn of this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untold: Option<String>,
    pub apps: Vec<App>,
    pub counts: Counts,
    /// Every resource that is not simply right.
    pub resources: Vec<Row>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Trueup was told to stop before the end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
}

/// Why and since when the desired state may be old.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stale {
    pub since: Option<Timestamp>,
    pub why: String,
}

/// What a report is about besides its resources.
pub struct Heading<'a> {
    pub node: &'a str,
    pub environment: &'a str,
    pub started: Timestamp,
    pub took: Duration,
    pub desired: &'a Desired,
    /// Each app of this host with the sha that it is at.
    pub apps: BTreeMap<String, Option<String>>,
    pub notes: Vec<String>,
    /// Trueup was told to stop meanwhile.
    pub stopped: bool,
}

impl Report {
    fn new(
        heading: Heading<'_>,
        rows: Vec<Row>,
        resources: usize,
        catalog: Option<&Catalog>,
    ) -> Report {
        let desired = heading.desired;
        let (stale, refused) = match &desired.freshness {
            Freshness::Fresh => (None, None),
            Freshness::Stale { since, why } => (
                Some(Stale {
                    since: *since,
                    why: why.clone(),
                }),
                None,
            ),
            Freshness::Refused(problem) => (None, Some(problem.to_string())),
        };
        let apps = heading.apps.into_iter().map(|(app, actual)| {
            let wanted = desired.apps.get(&app);
            let mut app = App {
                app,
                actual,
                wanted: wanted.map(|wanted| wanted.sha.to_string()),
                reference: wanted.and_then(|wanted| wanted.reference.clone()),
                held: wanted
                    .and_then(|wanted| wanted.hold.as_ref())
                    .map(Hold::words),
                state: AppState::Converged,
                why: None,
            };
            let own = catalog.map(|catalog| catalog.of_app(&app.app));
            let own = own.unwrap_or_default();
            let own = rows.iter().filter(|row| own.contains(&row.id.as_str()));
            let stale = stale.as_ref().map(|stale: &Stale| stale.why.as_str());
            (app.state, app.why) =
                standing::of_app(&app, own, stale, refused.as_deref(), heading.stopped);
            app
        });
        let apps = apps.collect();
        let mut warnings = heading.notes;
        warnings.extend(desired.warnings.iter().map(|problem| problem.to_string()));
        let counts = count(&rows, resources);
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
        report.outcome = report.verdict();
        report
    }

    /// The report of a pass that applied.
    pub fn of_pass(heading: Heading<'_>, catalog: &Catalog, done: Vec<apply::Done>) -> Report {
        let total = done.len();
        let rows = done.into_iter().map(|entry| row_of(entry, catalog));
        let rows = rows.filter(|row| {
            row.status != Status::Right || !row.paid.is_empty() || !row.owed.is_empty()
        });
        Report::new(heading, rows.collect(), total, Some(catalog))
    }

    /// The report of a plan; also that of a pass that found nothing to do.
    pub fn of_plan(heading: Heading<'_>, catalog: &Catalog, plan: &Plan) -> Report {
        let rows = plan.steps.iter().filter_map(|step| {
            let mut row = Row::right(&step.id, catalog);
            row.owed = step.debts.clone();
            match &step.forecast {
                Forecast::Right if row.owed.is_empty() => return None,
                Forecast::Right => {}
                Forecast::Change(change) => {
                    row.status = Status::Pending;
                    row.change = Some(change.clone());
                }
                Forecast::Waiting(change, why) => {
                    row.status = Status::Waiting;
                    row.change = Some(change.clone());
                    row.why = Some(why.clone());
                }
                Forecast::Unknown(why) => {
                    row.status = Status::Unknown;
                    row.why = Some(why.clone());
                }
                Forecast::Failed(failure) => {
                    row.status = Status::Failed;
                    row.why = Some(failure.message.clone());
                    row.hint = failure.hint.clone();
                }
            }
            Some(row)
        });
        Report::new(heading, rows.collect(), plan.steps.len(), Some(catalog))
    }

    /// Says that peers do not learn of this host, and why.
    pub fn is_untold(&mut self, why: String) {
        self.untold = Some(why);
        self.outcome = self.outcome.and(Exit::Stale);
    }

    fn verdict(&self) -> Exit {
        let mut exit = Exit::Converged;
        if self.stale.is_some() || !self.kept_lists.is_empty() || self.untold.is_some() {
            exit = exit.and(Exit::Stale);
        }
        if self.refused.is_some() {
            exit = exit.and(Exit::BadInput);
        }
        for row in &self.resources {
            exit = exit.and(match row.status {
                Status::Right | Status::Changed => Exit::Converged,
                Status::Pending | Status::Unknown => Exit::Pending,
                Status::Waiting => Exit::Waiting,
                Status::RolledBack => Exit::RolledBack,
                Status::Skipped if self.stopped => Exit::Stopped,
                Status::Skipped | Status::Failed => Exit::Failed,
            });
            if !row.owed.is_empty() && matches!(row.status, Status::Right | Status::Changed) {
                exit = exit.and(match self.stopped {
                    true => Exit::Stopped,
                    false => Exit::Pending,
                });
            }
        }
        exit
    }

    /// Whether the pass did anything at all or ended otherwise than well.
    pub fn is_quiet(&self) -> bool {
        self.outcome == Exit::Converged && self.resources.is_empty()
    }
}

impl Row {
    fn right(id: &str, catalog: &Catalog) -> Row {
        let kind = catalog.find(id).map_or("", |resource| resource.body.kind());
        Row {
            id: id.to_owned(),
            kind: kind.to_owned(),
            status: Status::Right,
            change: None,
            why: None,
            hint: None,
            paid: Vec::new(),
            owed: Vec::new(),
        }
    }
}

fn row_of(entry: apply::Done, catalog: &Catalog) -> Row {
    let mut row = Row::right(&entry.id, catalog);
    row.paid = entry.paid;
    row.owed = entry.owed.iter().map(|(debt, _)| debt.clone()).collect();
    row.why = entry.owed.first().map(|(_, why)| why.clone());
    match entry.result {
        apply::Result::Right => {}
        apply::Result::Changed(change) => {
            row.status = Status::Changed;
            row.change = Some(change);
        }
        apply::Result::Waiting(change, why) => {
            row.status = Status::Waiting;
            row.change = Some(change);
            row.why = Some(why);
        }
        apply::Result::RolledBack(change, failure) => {
            row.status = Status::RolledBack;
            row.change = Some(change);
            row.why = Some(failure.message);
            row.hint = failure.hint;
        }
        apply::Result::Failed(change, failure) => {
            row.status = match failure.stopped {
                true => Status::Skipped,
                false => Status::Failed,
            };
            row.change = change;
            row.why = Some(failure.message);
            row.hint = failure.hint;
        }
        apply::Result::Skipped(why) => {
            row.status = Status::Skipped;
            row.why = Some(why);
        }
    }
    row
}

fn count(rows: &[Row], resources: usize) -> Counts {
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
        .filter(|row| row.status != Status::Right)
        .count();
    Counts {
        right: resources - not_right,
        changed: of(Status::Changed) + of(Status::Pending) + of(Status::Unknown),
        waiting: of(Status::Waiting),
        skipped: of(Status::Skipped),
        rolled_back: of(Status::RolledBack),
        failed: of(Status::Failed),
        restarted: paid(Duty::Restart),
        reloaded: paid(Duty::Reload),
        owed: rows.iter().map(|row| row.owed.len()).sum(),
    }
}

/// `20261121T044301.123Z`: sorts by time and is a file name.
pub fn run_name(started: Timestamp) -> String {
    let zoned = started.to_zoned(jiff::tz::TimeZone::UTC);
    zoned.strftime("%Y%m%dT%H%M%S.%3fZ").to_string()
}
