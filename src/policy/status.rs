//! What a host says of its policy bundle, in reports.

use serde::{Deserialize, Serialize};

use crate::desired::ContentDigest;
use crate::exit::Exit;
use crate::printable::without_numbers;

/// The policy bundle of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PolicyStatus {
    /// `None`: the manifest names none.
    pub wanted: Option<ContentDigest>,
    /// `None`: the roles of the package and those beside the settings.
    pub in_force: Option<ContentDigest>,
    pub phase: PolicyPhase,
    /// Why it is not in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// How far a host is with the bundle that the manifest names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PolicyPhase {
    InForce,
    /// `plan`: it is what the plan is made with.
    Pending,
    /// It waits for its turn in the rollout.
    Waiting,
    /// This pass is the first one with it.
    OnTrial,
    /// It failed, here or elsewhere, and is not taken.
    Failed,
    /// The store does not provide it.
    Missing,
}

impl PolicyPhase {
    /// What it makes of the outcome of a pass or of a plan.
    pub(crate) fn outcome(self) -> Exit {
        match self {
            PolicyPhase::InForce | PolicyPhase::OnTrial => Exit::Converged,
            PolicyPhase::Pending => Exit::Pending,
            PolicyPhase::Waiting => Exit::Waiting,
            PolicyPhase::Failed => Exit::RolledBack,
            PolicyPhase::Missing => Exit::Stale,
        }
    }
}

impl PolicyStatus {
    /// In a line, for people.
    pub(crate) fn description(&self) -> String {
        let short = |digest: &Option<ContentDigest>| match digest {
            Some(digest) => format!("sha256:{}", digest.short()),
            None => "no bundle".to_owned(),
        };
        let (wanted, in_force) = (short(&self.wanted), short(&self.in_force));
        let why = self.why.as_ref().map(|why| format!(": {why}"));
        let why = why.unwrap_or_default();
        match self.phase {
            PolicyPhase::InForce => format!("{in_force} is in force"),
            PolicyPhase::Pending => {
                format!("this is a plan with {wanted}; {in_force} is in force{why}")
            }
            PolicyPhase::Waiting => format!("{wanted} waits, {in_force} stays in force{why}"),
            PolicyPhase::OnTrial => format!("{wanted} is on trial, after {in_force}"),
            PolicyPhase::Failed => format!("{wanted} failed, {in_force} stays in force{why}"),
            PolicyPhase::Missing => format!("{wanted} is missing, {in_force} stays in force{why}"),
        }
    }

    /// The same while nothing changes.
    pub(crate) fn comparable(&self) -> String {
        format!("{:?} {}", self.phase, without_numbers(&self.description()))
    }
}
