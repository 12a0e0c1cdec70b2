//! The bundle in force for a pass that lacks it, and what the record of the host says of it.

use std::rc::Rc;

use crate::desired::ContentDigest;
use crate::fleet::{AppRecord, ServingState};
use crate::notify::OwnResult;
use crate::pass::{ManifestSource, PassError, Session};
use crate::policy::{self, KeptBundles, PolicyPhase, PolicyState, PolicyStatus};
use crate::problem::Problem;
use crate::settings::{PolicyFiles, Settings};

impl Session {
    /// The settings with the bundle in force, if those of the session lack it: the host has lost it, or another pass has put
    /// it into force meanwhile.
    pub(super) fn settings_in_force(
        &self,
        state: &PolicyState,
        source: ManifestSource,
    ) -> Result<Option<Settings>, PassError> {
        if self.policy.borrow().opened == state.in_force {
            return Ok(None);
        }
        let Some(digest) = &state.in_force else {
            return Ok(Some(self.settings.with_policy(None)?));
        };
        let kept = KeptBundles { host: &self.host };
        let why = match kept.open(digest) {
            Some(Ok(files)) => return Ok(Some(self.settings_with(files)?)),
            Some(Err(why)) => why,
            None => "it is not in /var/lib/trueup/policy, or damaged there".to_owned(),
        };
        let ManifestSource::Store(ask, _) = source else {
            return Err(PassError::NoPolicy(why));
        };
        let missing = |also: String| PassError::NoPolicy(format!("{why}; {also}"));
        let store = &**self.shared_store()?;
        let packed = policy::fetch(store, digest).map_err(|error| missing(error.to_string()))?;
        let files = policy::open(digest, &packed).map_err(missing)?;
        if ask.save_last_good {
            kept.save(digest, &packed)?;
        }
        Ok(Some(self.settings_with(files)?))
    }

    pub(super) fn settings_with(&self, files: Rc<PolicyFiles>) -> Result<Settings, Problem> {
        self.settings.with_policy(Some(files))
    }

    /// How the bundle does on a host that goes by itself, for its notices.
    pub(in crate::pass) fn policy_result(&self) -> OwnResult {
        let policy = self.policy.borrow();
        let phase = policy.status.as_ref().map(|status| status.phase);
        let failed = policy.state.failed.as_ref();
        let failed = failed.filter(|_| phase == Some(PolicyPhase::Failed));
        OwnResult {
            is_proven: phase == Some(PolicyPhase::InForce),
            failure: failed.map(|failed| (None, failed.reason.clone(), String::new())),
        }
    }

    /// What the record of this host says of its bundle.
    pub(in crate::pass) fn policy_record(&self, status: &PolicyStatus) -> AppRecord {
        let sha = |digest: &Option<ContentDigest>| digest.as_ref().map(ContentDigest::rollout_sha);
        let serves = self.serves_with_policy();
        AppRecord {
            wanted: sha(&status.wanted),
            actual: sha(&status.in_force),
            state: match (status.phase, serves) {
                (PolicyPhase::OnTrial, _) => ServingState::OnTrial,
                (_, true) => ServingState::Serving,
                (_, false) => ServingState::Absent,
            },
            served: serves,
            pinned: false,
            outcome: match status.phase {
                PolicyPhase::InForce | PolicyPhase::OnTrial => None,
                phase => Some(phase.outcome()),
            },
            since: self.policy.borrow().state.since,
            why: status.why.clone(),
        }
    }
}
