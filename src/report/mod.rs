//! Report of a pass, its changes and its outcome: kept on the host, printed for people and as JSON.

mod app_state;
mod build;
mod evaluate;
mod history;
pub(crate) mod metrics;
pub(crate) mod motd;
mod overdue;
mod pass_summary;
#[cfg(test)]
mod tests;
mod text;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::digest;
use crate::exit::Exit;
use crate::owed::{FulfilledObligation, Obligation};
use crate::policy::{PolicyPhase, PolicyStatus};
use crate::printable::without_numbers;
use crate::resource::{Change, one_line};

pub(crate) use app_state::AppState;
pub(crate) use build::ReportHeader;
pub(crate) use history::{History, TIMER};
pub(crate) use overdue::{Overdue, check_overdue};
pub(crate) use pass_summary::PassSummary;
pub(crate) use text::{
    Paint, change_line, diff_lines, obligation_line, runtime_update_line, summary_line,
    unified_diff, waiting_lines,
};

/// Version of the format; readers refuse a newer one.
pub(crate) const VERSION: u32 = 1;

/// Outcome of one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ResourceStatus {
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
pub(crate) struct ResourceReport {
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
    pub paid: Vec<FulfilledObligation>,
    /// Those still owed; in a plan, those that a pass would perform.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owed: Vec<Obligation>,
}

/// Number of resources by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub right: usize,
    pub changed: usize,
    pub waiting: usize,
    pub skipped: usize,
    #[serde(default)]
    pub rolled_back: usize,
    pub failed: usize,
    pub restarted: usize,
    pub reloaded: usize,
    /// Services that took over a change without the reload that was owed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub updated_at_runtime: usize,
    pub owed: usize,
    /// Those that the user who runs trueup may not inspect; never so in a pass.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub not_inspected: usize,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// One app of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AppReport {
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
    /// The maintenance in force, with its author, end and reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<String>,
    #[serde(default)]
    pub state: AppState,
    /// Why it is not converged, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The report of one pass, or of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
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
    /// Why publishing the host's record failed. The key is part of the output of `--json`.
    #[serde(default, rename = "untold", skip_serializing_if = "Option::is_none")]
    pub publish_error: Option<String>,
    /// The policy bundle, if the manifest names one or one is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyStatus>,
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
pub(crate) struct Staleness {
    pub since: Option<Timestamp>,
    pub why: String,
}

impl ResourceReport {
    /// With its reason in one line and without numbers: what a program prints besides, and the ids and times there, may differ
    /// each time.
    fn comparable(&self) -> ResourceReport {
        ResourceReport {
            why: self
                .why
                .as_deref()
                .map(|why| without_numbers(&one_line(why))),
            ..self.clone()
        }
    }
}

impl Report {
    pub(crate) fn app(&self, name: &str) -> Option<&AppReport> {
        self.apps.iter().find(|app| app.app == name)
    }

    /// Marks the host's record as unpublished, with the reason.
    pub(crate) fn mark_unpublished(&mut self, why: String) {
        self.publish_error = Some(why);
        self.outcome = self.outcome.merge(Exit::Stale);
    }

    /// Replaces what the report says of the policy bundle.
    pub(crate) fn set_policy(&mut self, policy: PolicyStatus) {
        self.outcome = self.outcome.merge(policy.phase.outcome());
        self.policy = Some(policy);
    }

    /// Adds a failure of the host that is none of a resource's.
    pub(crate) fn add_failure(&mut self, id: &str, why: String, hint: Option<String>) {
        self.resources.push(ResourceReport {
            id: id.to_owned(),
            kind: String::new(),
            status: ResourceStatus::Failed,
            change: None,
            why: Some(why),
            hint,
            paid: Vec::new(),
            owed: Vec::new(),
        });
        self.counts.failed += 1;
        self.outcome = self.outcome.merge(Exit::Failed);
    }

    /// Identifies the outcome with all of its reasons: the same while nothing changes.
    pub(crate) fn state_digest(&self) -> String {
        let rows = self.resources.iter();
        let rows = rows.map(ResourceReport::comparable);
        let rows: Vec<_> = rows.map(|row| (row.id, row.status, row.why)).collect();
        let stale = self.stale.as_ref().map(|stale| &stale.why);
        let policy = self.policy.as_ref().map(PolicyStatus::comparable);
        let rest = (
            &self.refused,
            policy,
            stale,
            &self.kept_lists,
            &self.publish_error,
            &self.warnings,
        );
        digest(format!("{:?}", (self.outcome, rows, rest)).as_bytes())
    }

    /// Whether the pass changed nothing and converged.
    pub(crate) fn is_quiet(&self) -> bool {
        let is_new = |policy: &PolicyStatus| policy.phase == PolicyPhase::OnTrial;
        self.outcome == Exit::Converged
            && self.resources.is_empty()
            && !self.policy.as_ref().is_some_and(is_new)
    }
}

/// `20261121T044301.123Z`: sorts by time and is a valid file name.
pub(crate) fn run_name(started: Timestamp) -> String {
    let zoned = started.to_zoned(jiff::tz::TimeZone::UTC);
    zoned.strftime("%Y%m%dT%H%M%S.%3fZ").to_string()
}
