//! What a pass shows of the bundle that it ran with, and what this host owes to its rollout.

use crate::fleet::rollout::{AppPosition, Settled};
use crate::pass::{PassError, Session};
use crate::policy::{KeptBundles, PolicyPhase, PolicyStatus};
use crate::report::{Report, ResourceReport, ResourceStatus};

/// What a pass shows of the bundle that it ran with.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Works,
    /// A restart, or what was stopped, is still to come.
    Open,
    Fails(String),
}

/// Judges a report. `failing_before`: resources that failed without the bundle as well.
fn judge(report: &Report, failing_before: &[String]) -> Verdict {
    let is_failed = |row: &&ResourceReport| match row.status {
        ResourceStatus::Failed | ResourceStatus::RolledBack => true,
        ResourceStatus::Skipped => !report.stopped,
        _ => false,
    };
    let is_new = |row: &&ResourceReport| !failing_before.contains(&row.id);
    let mut failed: Vec<&ResourceReport> = report
        .resources
        .iter()
        .filter(is_failed)
        .filter(is_new)
        .collect();
    // Skipped resources are only a consequence.
    failed.sort_by_key(|row| row.status == ResourceStatus::Skipped);
    if let Some(row) = failed.first() {
        let why = row.why.as_deref().unwrap_or("it failed");
        return Verdict::Fails(format!("{}: {why}", row.id));
    }
    let owes = |row: &ResourceReport| {
        let is_right = matches!(row.status, ResourceStatus::Right | ResourceStatus::Changed);
        is_right && !row.owed.is_empty()
    };
    match report.stopped || report.resources.iter().any(owes) {
        true => Verdict::Open,
        false => Verdict::Works,
    }
}

impl Session {
    /// Puts the bundle on trial into force, or goes back with the next pass.
    pub(in crate::pass) fn judge_policy(
        &self,
        report: &mut Report,
        is_whole: bool,
    ) -> Result<(), PassError> {
        if !self.policy.borrow().is_on_trial {
            return Ok(());
        }
        let trial = self.policy.borrow().state.trial.clone();
        let failing_before = trial.map_or_else(Vec::new, |trial| trial.failing_before);
        let verdict = match is_whole {
            true => judge(report, &failing_before),
            false => Verdict::Open,
        };
        match verdict {
            Verdict::Works => self.put_policy_into_force()?,
            Verdict::Open => {
                let mut policy = self.policy.borrow_mut();
                policy.is_on_trial = false;
                if let Some(trial) = &mut policy.state.trial {
                    trial.attempts = 0;
                }
                policy.state.save(&self.host)?;
            }
            Verdict::Fails(why) => {
                self.fail_policy(&why)?;
                self.policy.borrow_mut().goes_back = true;
                let line = "the policy bundle failed: the next pass goes back to the one before";
                report.warnings.push(line.to_owned());
            }
        }
        if let Some(status) = self.policy.borrow().status.clone() {
            report.set_policy(status);
        }
        Ok(())
    }

    fn put_policy_into_force(&self) -> Result<(), PassError> {
        let mut policy = self.policy.borrow_mut();
        policy.is_on_trial = false;
        let Some(trial) = policy.state.trial.take() else {
            return Ok(());
        };
        let digest = trial.digest;
        tracing::info!(target: "progress", "the policy bundle sha256:{} is in force", digest.short());
        policy.state.previous = policy.state.in_force.replace(digest.clone());
        policy.state.since = Some(self.host.clock.now());
        let is_wanted = |status: &PolicyStatus| status.wanted.as_ref() == Some(&digest);
        let is_wanted = policy.status.as_ref().is_some_and(is_wanted);
        if is_wanted {
            policy.state.failed = None;
        }
        let failed = policy
            .state
            .failed
            .as_ref()
            .map(|failed| failed.reason.clone());
        policy.state.save(&self.host)?;
        let kept: Vec<_> = policy.state.kept().collect();
        KeptBundles { host: &self.host }.prune(&kept)?;
        if let Some(status) = &mut policy.status {
            status.in_force = Some(digest);
            (status.phase, status.why) = match (is_wanted, failed) {
                (true, _) => (PolicyPhase::InForce, None),
                // It went back.
                (false, Some(why)) => (PolicyPhase::Failed, Some(why)),
                // A new host has taken the one before.
                (false, None) => (PolicyPhase::Waiting, status.why.take()),
            };
        }
        Ok(())
    }

    /// Settles what this host owes to the rollout of its bundle. Returns lines for the report.
    pub(in crate::pass) fn settle_policy(&self, report: &Report) -> Vec<String> {
        let (rollout, state, goes_back) = {
            let policy = self.policy.borrow();
            (
                policy.rollout.clone(),
                policy.state.clone(),
                policy.goes_back,
            )
        };
        if goes_back {
            // Right away: the host has what a failed pass left.
            self.is_proving.set(true);
            return Vec::new();
        }
        let Some(rollout) = rollout.filter(|rollout| !rollout.host.is_cut_off) else {
            return Vec::new();
        };
        if state.trial.is_some() || !rollout.may_write() {
            return Vec::new();
        }
        let failing_before = state
            .failed
            .map_or_else(Vec::new, |failed| failed.failing_before);
        let works = judge(report, &failing_before) == Verdict::Works;
        let in_force = state.in_force.map(|digest| digest.rollout_sha());
        let position = match works {
            _ if in_force.as_ref() == Some(&rollout.sha) => AppPosition::Wanted,
            true => AppPosition::Other,
            false => AppPosition::Unproven,
        };
        match rollout.settle(position, &|| works) {
            Ok(Settled::Proving) => self.is_proving.set(true),
            Ok(Settled::Nothing | Settled::Over { .. }) => {}
            // The bundle before does not work any more either, so it is not this one.
            Ok(Settled::Environment) => return self.forget_failed_policy(),
            Err(error) => return vec![format!("the policy bundle: its rollout: {error}")],
        }
        Vec::new()
    }

    fn forget_failed_policy(&self) -> Vec<String> {
        let mut policy = self.policy.borrow_mut();
        policy.state.failed = None;
        match policy.state.save(&self.host) {
            Ok(()) => Vec::new(),
            Err(error) => vec![error.to_string()],
        }
    }
}
