//! A bundle that failed on this host.

use super::PolicyUse;
use crate::pass::{ManifestSource, PassError, Session};
use crate::policy::{FailedPolicy, PolicyPhase};
use crate::ports::permission::Permission;
use crate::resource::one_line;

impl Session {
    /// The bundle on trial cannot be used at all: its roles are invalid. The pass goes on without it.
    pub(in crate::pass) fn refuse_policy(
        &self,
        why: &str,
        source: ManifestSource,
    ) -> Result<(), PassError> {
        let is_take = matches!(source, ManifestSource::Store(_, PolicyUse::Take));
        if is_take && self.policy.borrow().is_on_trial {
            self.fail_policy(why)?;
        } else if let Some(status) = &mut self.policy.borrow_mut().status {
            status.phase = PolicyPhase::Failed;
            status.why = Some(one_line(why));
        }
        Ok(())
    }

    /// The bundle on trial failed here, and is not tried again.
    pub(super) fn fail_policy(&self, why: &str) -> Result<(), PassError> {
        let mut policy = self.policy.borrow_mut();
        policy.is_on_trial = false;
        let Some(trial) = policy.state.trial.take() else {
            return Ok(());
        };
        let reason = one_line(why);
        policy.state.failed = Some(FailedPolicy {
            digest: trial.digest,
            reason: reason.clone(),
            failing_before: trial.failing_before,
        });
        policy.state.save(&self.host)?;
        if let Some(status) = &mut policy.status {
            status.phase = PolicyPhase::Failed;
            status.why = Some(reason.clone());
        }
        if let Some(rollout) = policy.rollout.clone()
            && let Err(error) = rollout.note_failure(&reason, why)
        {
            tracing::warn!("the rollout of the policy bundle: {error}");
        }
        Ok(())
    }
}
