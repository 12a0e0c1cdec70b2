//! How a pass gets to a bundle that is not in force: from the store, and with the permission of the other hosts.

use std::rc::Rc;

use crate::desired::{ContentDigest, WantedPolicy};
use crate::fleet::rollout::{AppPosition, HostRollout};
use crate::pass::{PassError, PassOptions, Session};
use crate::policy::{
    self, FailedPolicy, FetchError, KeptBundles, PolicyPhase, PolicyState, PolicyTrial,
};
use crate::ports::permission::{Permission, PermitDecision, Purpose};
use crate::ports::store::StoreError;
use crate::report::{History, ResourceStatus};
use crate::resource::one_line;
use crate::settings::PolicyFiles;

/// Passes that may begin with a bundle and end without a result: a host that dies of it must not do so for ever.
const MAX_ATTEMPTS: u32 = 3;

/// A bundle that a pass can go with.
pub(super) type OpenedBundle = (ContentDigest, Rc<PolicyFiles>);

/// Why a host does not take the wanted bundle in this pass.
pub(super) type Obstacle = (PolicyPhase, String);

/// The wanted bundle is not in force, and this pass may change that.
pub(super) struct Attempt<'a> {
    pub session: &'a Session,
    pub wanted: &'a WantedPolicy,
    pub rollout: Option<&'a Rc<HostRollout>>,
    pub options: &'a PassOptions,
    /// The store does not answer.
    pub is_stale: bool,
}

impl Attempt<'_> {
    /// The bundle for a plan, and what it waits for.
    pub(super) fn preview(
        &self,
        state: &PolicyState,
    ) -> Result<(Rc<PolicyFiles>, Option<String>), Obstacle> {
        if let Some(failed) = failed_before(state, self.wanted) {
            return Err(failed);
        }
        let digest = &self.wanted.digest;
        let packed = self.packed(digest)?;
        let files = policy::open(digest, &packed).map_err(|why| (PolicyPhase::Failed, why))?;
        let serves = self.session.serves_with_policy();
        let asked = self.rollout.map(|r| r.peek(Purpose::Deploy, serves));
        match asked {
            None | Some(PermitDecision::Granted) => Ok((files, None)),
            Some(PermitDecision::Wait(why)) => {
                Ok((files, Some(format!("it waits for its rollout: {why}"))))
            }
            Some(PermitDecision::Refused(why)) => Err((PolicyPhase::Failed, why)),
        }
    }

    /// The bundle that this pass tries, or why it tries none.
    pub(super) fn take(
        &self,
        mut state: PolicyState,
    ) -> Result<Result<OpenedBundle, Obstacle>, PassError> {
        self.follow_lift(&mut state)?;
        if let Some(failed) = failed_before(&state, self.wanted) {
            return Ok(Err(failed));
        }
        let wanted = &self.wanted.digest;
        let goes_on = state.trial.as_ref().is_some_and(|t| t.digest == *wanted);
        let mut digest = wanted;
        let mut packed = match self.packed(wanted) {
            Ok(packed) => packed,
            Err(obstacle) => return Ok(Err(obstacle)),
        };
        // An outage is no time to go back and forth: a trial that has begun goes on.
        if !(self.is_stale && goes_on)
            && let Err(obstacle) = self.ask()
        {
            let previous = self.previous_for_newcomer();
            let Some((previous, body)) = previous else {
                return Ok(Err(obstacle));
            };
            (digest, packed) = (previous, body);
        }
        self.begin(state, digest, &packed)
    }

    /// Begins a trial, or another pass of one. Noted before the bundle is looked into: a host that dies of it finds out.
    fn begin(
        &self,
        mut state: PolicyState,
        digest: &ContentDigest,
        packed: &[u8],
    ) -> Result<Result<OpenedBundle, Obstacle>, PassError> {
        let host = &self.session.host;
        KeptBundles { host }.save_if_absent(digest, packed)?;
        let known = state.trial.take().filter(|trial| trial.digest == *digest);
        let mut trial = known.unwrap_or_else(|| PolicyTrial {
            digest: digest.clone(),
            attempts: 0,
            failing_before: failing_resources(self.session),
        });
        trial.attempts += 1;
        let is_over = trial.attempts > MAX_ATTEMPTS;
        state.trial = Some(trial);
        state.save(host)?;
        let mut policy = self.session.policy.borrow_mut();
        policy.state = state;
        policy.is_on_trial = true;
        drop(policy);
        let opened = match is_over {
            true => Err(format!("{MAX_ATTEMPTS} passes with it ended early")),
            false => policy::open(digest, packed),
        };
        match opened {
            Ok(files) => Ok(Ok((digest.clone(), files))),
            Err(why) => {
                self.session.fail_policy(&why)?;
                Ok(Err((PolicyPhase::Failed, why)))
            }
        }
    }

    /// With `on_failure: rollback`, the bundle of before for a host whose bundle failed on another one.
    pub(super) fn go_back(
        &self,
        mut state: PolicyState,
    ) -> Result<Option<OpenedBundle>, PassError> {
        let (Some(rollout), Some(previous)) = (self.rollout, &self.wanted.previous) else {
            return Ok(None);
        };
        let has_failed = |failed: &FailedPolicy| failed.digest == *previous;
        if self.is_stale || state.failed.as_ref().is_some_and(has_failed) {
            return Ok(None);
        }
        let why = rollout.instead(AppPosition::Wanted, &previous.rollout_sha());
        let Ok(Some(why)) = why else {
            return Ok(None);
        };
        let permit = rollout.request(Purpose::Back, true);
        let packed = self.packed(previous);
        let (PermitDecision::Granted, Ok(packed)) = (permit, packed) else {
            return Ok(None);
        };
        state.failed = Some(FailedPolicy {
            digest: self.wanted.digest.clone(),
            reason: one_line(&why),
            failing_before: Vec::new(),
        });
        Ok(self.begin(state, previous, &packed)?.ok())
    }

    /// Lets a bundle be tried again whose quarantine an operator lifted, here or for all hosts.
    fn follow_lift(&self, state: &mut PolicyState) -> Result<(), PassError> {
        if failed_before(state, self.wanted).is_none() {
            return Ok(());
        }
        let is_lifted = match (&self.options.lift_quarantine, self.rollout) {
            (Some(lift), rollout) => {
                let lifted = rollout.map(|r| r.lift_quarantine(&lift.by, &lift.reason));
                if let Some(Err(error)) = lifted {
                    tracing::warn!(
                        "the quarantine of the policy bundle for all hosts stays: {error}"
                    );
                }
                true
            }
            (None, Some(rollout)) if !self.is_stale => {
                matches!(rollout.follow_lift(), Ok(Some(_)))
            }
            (None, _) => false,
        };
        if is_lifted {
            state.failed = None;
            state.save(&self.session.host)?;
        }
        Ok(())
    }

    /// Asks the other hosts.
    fn ask(&self) -> Result<(), Obstacle> {
        let Some(rollout) = self.rollout else {
            return Ok(());
        };
        match rollout.request(Purpose::Deploy, self.session.serves_with_policy()) {
            PermitDecision::Granted => Ok(()),
            PermitDecision::Wait(why) => Err((PolicyPhase::Waiting, why)),
            PermitDecision::Refused(why) => Err((PolicyPhase::Failed, why)),
        }
    }

    /// A new host takes the bundle of before while the wanted one is not known to work: without any it would go by the roles
    /// of the package.
    fn previous_for_newcomer(&self) -> Option<(&ContentDigest, Vec<u8>)> {
        let previous = self.wanted.previous.as_ref()?;
        let state = &self.session.policy.borrow().state;
        let has_failed = |failed: &FailedPolicy| failed.digest == *previous;
        if state.in_force.is_some() || state.failed.as_ref().is_some_and(has_failed) {
            return None;
        }
        let rollout = self.rollout?;
        let may = rollout.instead(AppPosition::Absent, &previous.rollout_sha());
        may.ok()??;
        Some((previous, self.packed(previous).ok()?))
    }

    /// The packed bundle, from this host or from the store.
    fn packed(&self, digest: &ContentDigest) -> Result<Vec<u8>, Obstacle> {
        let host = &self.session.host;
        if let Some(packed) = (KeptBundles { host }).read(digest) {
            return Ok(packed);
        }
        let missing = |why: String| (PolicyPhase::Missing, why);
        if self.is_stale {
            return Err(missing("the store does not answer".into()));
        }
        let store = self.session.shared_store();
        let store = store.map_err(|error| missing(error.to_string()))?;
        policy::fetch(&**store, digest).map_err(|error| match error {
            // It will never fit.
            FetchError::Store(error @ StoreError::TooLarge { .. }) => {
                (PolicyPhase::Failed, error.to_string())
            }
            error => missing(error.to_string()),
        })
    }
}

/// The wanted bundle failed on this host.
pub(super) fn failed_before(state: &PolicyState, wanted: &WantedPolicy) -> Option<Obstacle> {
    let failed = state.failed.as_ref();
    let failed = failed.filter(|failed| failed.digest == wanted.digest)?;
    Some((PolicyPhase::Failed, failed.reason.clone()))
}

/// The resources that fail on this host already.
fn failing_resources(session: &Session) -> Vec<String> {
    let newest = History::new(&session.host).newest();
    let rows = newest.into_iter().flat_map(|report| report.resources);
    let failing = rows.filter(|row| {
        let failing = [
            ResourceStatus::Failed,
            ResourceStatus::Skipped,
            ResourceStatus::RolledBack,
        ];
        failing.contains(&row.status)
    });
    failing.map(|row| row.id).collect()
}
