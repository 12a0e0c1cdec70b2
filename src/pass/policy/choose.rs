//! Which bundle a pass goes with.

use super::PolicyUse;
use super::attempt::{Attempt, failed_before};
use super::in_force::load_state;
use crate::desired::{ContentDigest, POLICY_APP, ReadManifest, WantedPolicy};
use crate::pass::{ManifestSource, PassError, PassOptions, Session};
use crate::policy::{PolicyPhase, PolicyState, PolicyStatus};
use crate::problem::Problem;
use crate::report::History;
use crate::settings::Settings;

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
        {
            let mut policy = self.policy.borrow_mut();
            policy.state = state.clone();
            policy.wanted = wanted.as_ref().map(|wanted| wanted.app.clone());
        }
        let mode = match source {
            ManifestSource::Store(_, mode) => mode,
            ManifestSource::LastGood => PolicyUse::InForce,
        };
        // Before the manifest was ever read, nobody knows what it wants.
        let Some(manifest) = manifest else {
            return Ok(chosen);
        };
        let Some(wanted) = wanted else {
            chosen.base = self.choose_none(state, mode)?.or(chosen.base);
            return Ok(chosen);
        };
        let in_force = state.in_force.as_ref() == Some(&wanted.digest);
        let is_local = self.settings.store.is_local();
        let rollout = match mode {
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
        let (digest, files) = match mode {
            PolicyUse::Take if in_force => match attempt.go_back(state.clone())? {
                Some(previous) => {
                    let why = Some("it failed on another host, so this one goes back".to_owned());
                    self.set_policy_status(&wanted, PolicyPhase::OnTrial, why);
                    previous
                }
                None => {
                    self.end_trial(state)?;
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
        mode: PolicyUse,
    ) -> Result<Option<Settings>, PassError> {
        let mut policy = self.policy.borrow_mut();
        policy.rollout = None;
        if state.in_force.is_none() && state.trial.is_none() {
            policy.status = None;
            return Ok(None);
        }
        let phase = match mode {
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
        if mode == PolicyUse::InForce {
            policy.status = Some(status);
            return Ok(None);
        }
        let settings = self.settings.with_policy(None)?;
        if mode == PolicyUse::Take {
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

    /// The manifest wants the bundle in force again, and not the one on trial any more.
    fn end_trial(&self, mut state: PolicyState) -> Result<(), PassError> {
        if state.trial.take().is_some() {
            state.save(&self.host)?;
            self.policy.borrow_mut().state = state;
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

fn ignored(digest: &ContentDigest) -> Problem {
    Problem::new(format!(
        "the manifest names the policy bundle sha256:{}, which this host ignores: it has no `signers`, and without them \
         whoever can write to the store would be root here",
        digest.short()
    ))
    .hint("set `signers` in node.yml, and sign the manifest")
}
