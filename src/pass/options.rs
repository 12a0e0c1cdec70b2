//! What an operator, or the timer, asks of a pass.

use std::collections::BTreeMap;

use super::policy::PolicyUse;
use crate::desired::ResumePolicy;

/// Options that change what a pass does.
#[derive(Debug, Clone, Default)]
pub(crate) struct PassOptions {
    /// Fetch from the store without the cached versions, and retry failed releases at once, without backoff.
    pub force: bool,
    /// A person started it: retry failed releases at once, too.
    pub by_hand: bool,
    /// Apply changes that the manifest holds back, on this host and in this pass only.
    pub ignore_holds: bool,
    /// Start unfinished releases from scratch.
    pub fresh: bool,
    /// Limit the pass to this resource and those that act on its change.
    pub only: Option<String>,
    /// Lift the quarantine of the wanted shas and retry them.
    pub lift_quarantine: Option<QuarantineLift>,
    /// Where to begin to look for a free slot, by app: this process has just looked.
    pub next_slots: BTreeMap<String, u32>,
    /// Accept the current peer lists even if they shrank (overrides the shrink guard).
    pub accept_shrink: bool,
}

/// Operator and reason of a lifted quarantine.
#[derive(Debug, Clone)]
pub(crate) struct QuarantineLift {
    pub by: String,
    pub reason: String,
}

impl PassOptions {
    /// What the pass does about a policy bundle that is not in force. A part of a pass shows nothing about one.
    pub(super) fn policy_use(&self) -> PolicyUse {
        match self.only {
            None => PolicyUse::Take,
            Some(_) => PolicyUse::InForce,
        }
    }

    pub(super) fn resume_policy(&self) -> ResumePolicy {
        let is_asked_for = self.force || self.by_hand || self.lift_quarantine.is_some();
        match (self.fresh, is_asked_for) {
            (true, _) => ResumePolicy::FromScratch,
            (false, true) => ResumePolicy::Now,
            (false, false) => ResumePolicy::Backoff,
        }
    }
}
