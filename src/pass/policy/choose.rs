//! Which bundle a pass goes with.

use std::rc::Rc;

use super::{PolicyUse, load_state};
use crate::desired::{ContentDigest, POLICY_APP, ReadManifest, WantedPolicy};
use crate::fleet::rollout::{AppPosition, HostRollout};
use crate::pass::{ManifestSource, PassError, PassOptions, Session};
use crate::policy::{
    self, FailedPolicy, FetchError, KeptBundles, PolicyPhase, PolicyState, PolicyStatus,
    PolicyTrial,
};
use crate::ports::permission::{Permission, PermitDecision, Purpose};
use crate::ports::store::StoreError;
use crate::problem::Problem;
use crate::report::{History, ResourceStatus};
use crate::resource::one_line;
use crate::settings::{PolicyFiles, Settings};

/// Passes that may begin with a bundle and end without a result: a host that dies of it must not do so for ever.
const MAX_ATTEMPTS: u32 = 3;

/// The bundle that a pass goes with.
#[derive(Default)]
pub(in crate::pass) struct ChosenPolicy {
    /// The settings with the bundle that this pass tries, or shows.
    pub on_trial: Option<Settings>,
    /// Those without it, if they are not the session's.
    base: Option<Settings>,
    pub warning: Option<Problem>,
}

impl ChosenPolicy {
    /// The settings to go on with if the bundle on trial cannot be used.
    pub(in crate::pass) fn base<'s>(&'s self, of_session: &'s Settings) -> &'s Settings {
        self.base.as_ref().unwrap_or(of_session)
    }
}

/// A bundle that a pass can go with.
type OpenedBundle = (ContentDigest, Rc<PolicyFiles>);

/// Why a host does not take the wanted bundle in this pass.
type Obstacle = (PolicyPhase, String);

impl Session {
    /// Chooses the bundle of this pass.
    pub(in crate::pass) fn choose_policy(
        &self,
        manifest: Option<&ReadManifest<'_>>,
        source: ManifestSource,
        options: &PassOptions,
    ) -> Result<ChosenPolicy, PassError> {
        let wanted = manifest.and_then(ReadManifest::policy);
        if self.settings.signers.is_none() {
            let warning = wanted.map(|wanted| ignored(&wanted.digest));
            return Ok(ChosenPolicy {
                warning,
                ..ChosenPolicy::default()
            });
        }
        let state = load_state(&self.host, &self.settings.environment)?;
        let mut chosen = ChosenPolicy {
            base: self.settings_in_force(&state, source)?,
            ..ChosenPolicy::default()
        };
        self.policy.borrow_mut().state = state.clone();
        let use_ = match source {
            ManifestSource::Store(_, use_) => use_,
            ManifestSource::LastGood => PolicyUse::InForce,
        };
        // Before the manifest was ever read, nobody knows what it wants.
        let Some(manifest) = manifest else {
            return Ok(chosen);
        };
        let Some(wanted) = wanted else {
            chosen.base = self.choose_none(state, use_)?.or(chosen.base);
            return Ok(chosen);
        };
        let in_force = state.in_force.as_ref() == Some(&wanted.digest);
        let is_local = self.settings.store.is_local();
        let rollout = match use_ {
            PolicyUse::InForce => None,
            _ if is_local => None,
            _ => self.fleet_host(manifest.is_stale()).and_then(|host| {
                let wanted = (&wanted.app, manifest.generation());
                self.host_rollout(&host, POLICY_APP, wanted, options)
            }),
        };
        self.policy.borrow_mut().rollout = rollout.clone();
        let attempt = Attempt {
            session: self,
            wanted: &wanted,
            rollout: rollout.as_ref(),
            options,
            is_stale: manifest.is_stale(),
        };
        let (digest, files) = match use_ {
            PolicyUse::Take if in_force => match attempt.go_back(state)? {
                Some(previous) => {
                    let why = Some("it failed on another host, so this one goes back".to_owned());
                    self.set_policy_status(&wanted, PolicyPhase::OnTrial, why);
                    previous
                }
                None => {
                    self.set_policy_status(&wanted, PolicyPhase::InForce, None);
                    return Ok(chosen);
                }
            },
            _ if in_force => {
                self.set_policy_status(&wanted, PolicyPhase::InForce, None);
                return Ok(chosen);
            }
            PolicyUse::InForce => {
                let (phase, why) = failed_before(&state, &wanted).unwrap_or((
                    PolicyPhase::Waiting,
                    "a pass of this host asks for it".into(),
                ));
                self.set_policy_status(&wanted, phase, Some(why));
                return Ok(chosen);
            }
            PolicyUse::Preview => match attempt.preview(&state) {
                Ok((files, why)) => {
                    self.set_policy_status(&wanted, PolicyPhase::Pending, why);
                    (wanted.digest.clone(), files)
                }
                Err((phase, why)) => {
                    self.set_policy_status(&wanted, phase, Some(why));
                    return Ok(chosen);
                }
            },
            PolicyUse::Take => match attempt.take(state)? {
                Ok(taken) => {
                    self.set_policy_status(&wanted, PolicyPhase::OnTrial, None);
                    taken
                }
                Err((phase, why)) => {
                    self.set_policy_status(&wanted, phase, Some(why));
                    return Ok(chosen);
                }
            },
        };
        match self.settings_with(files) {
            Ok(settings) => chosen.on_trial = Some(settings),
            Err(problem) => {
                self.refuse_policy(&format!("{}: {problem}", digest.short()), source)?
            }
        }
        Ok(chosen)
    }

    /// The manifest names no bundle: the roles of the package are in force again, at once.
    fn choose_none(
        &self,
        mut state: PolicyState,
        use_: PolicyUse,
    ) -> Result<Option<Settings>, PassError> {
        let mut policy = self.policy.borrow_mut();
        policy.rollout = None;
        if state.in_force.is_none() && state.trial.is_none() {
            policy.status = None;
            return Ok(None);
        }
        let phase = match use_ {
            PolicyUse::Take => PolicyPhase::InForce,
            PolicyUse::Preview => PolicyPhase::Pending,
            PolicyUse::InForce => PolicyPhase::Waiting,
        };
        let mut status = PolicyStatus {
            wanted: None,
            in_force: state.in_force.clone(),
            phase,
            why: None,
        };
        if use_ == PolicyUse::InForce {
            policy.status = Some(status);
            return Ok(None);
        }
        let settings = self.settings.with_policy(None)?;
        if use_ == PolicyUse::Take {
            if state.in_force.is_some() {
                state.previous = state.in_force.take();
            }
            (state.trial, state.failed, state.since) = (None, None, None);
            state.save(&self.host)?;
            status.in_force = None;
            policy.state = state;
        }
        policy.status = Some(status);
        Ok(Some(settings))
    }

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

    fn set_policy_status(&self, wanted: &WantedPolicy, phase: PolicyPhase, why: Option<String>) {
        let mut policy = self.policy.borrow_mut();
        policy.status = Some(PolicyStatus {
            wanted: Some(wanted.digest.clone()),
            in_force: policy.state.in_force.clone(),
            phase,
            why,
        });
    }

    /// Whether this host works with what is in force, so that a new bundle may take it out of service.
    pub(super) fn serves_with_policy(&self) -> bool {
        let is_in_force = self.policy.borrow().state.in_force.is_some();
        let converged = || History::new(&self.host).last().and_then(|last| last.good);
        is_in_force || converged().is_some()
    }
}

/// The wanted bundle is not in force, and this pass may change that.
struct Attempt<'a> {
    session: &'a Session,
    wanted: &'a WantedPolicy,
    rollout: Option<&'a Rc<HostRollout>>,
    options: &'a PassOptions,
    /// The store does not answer.
    is_stale: bool,
}

impl Attempt<'_> {
    /// The bundle for a plan, and what it waits for.
    fn preview(&self, state: &PolicyState) -> Result<(Rc<PolicyFiles>, Option<String>), Obstacle> {
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
    fn take(&self, mut state: PolicyState) -> Result<Result<OpenedBundle, Obstacle>, PassError> {
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
    fn go_back(&self, mut state: PolicyState) -> Result<Option<OpenedBundle>, PassError> {
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
fn failed_before(state: &PolicyState, wanted: &WantedPolicy) -> Option<Obstacle> {
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

fn ignored(digest: &ContentDigest) -> Problem {
    Problem::new(format!(
        "the manifest names the policy bundle sha256:{}, which this host ignores: it has no `signers`, and without them \
         whoever can write to the store would be root here",
        digest.short()
    ))
    .hint("set `signers` in node.yml, and sign the manifest")
}
