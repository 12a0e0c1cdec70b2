//! The policy bundle of a pass: which one is in force, and how a host takes the one that the manifest names.
//!
//! A pass that is permitted to take a new bundle runs with it at once, on trial. If it converges, the bundle is in force; if
//! it fails, the next pass goes back to the bundle before, and nobody tries this one again. In between, hosts ask each other
//! as they do for an app, under the name `_policy`.

mod choose;
mod judge;

use std::rc::Rc;

use super::{ManifestSource, PassError, Session};
use crate::desired::ContentDigest;
use crate::fleet::rollout::HostRollout;
use crate::fleet::{AppRecord, ServingState};
use crate::policy::{self, KeptBundles, PolicyPhase, PolicyState, PolicyStatus};
use crate::ports::Host;
use crate::ports::state::StateError;
use crate::problem::Problem;
use crate::settings::{PolicyFiles, Settings};

/// What a run of the chain does about a bundle that is not in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PolicyUse {
    /// Nothing: it stays with the one in force.
    InForce,
    /// Shows what it would change.
    Preview,
    /// Takes it, as soon as the others permit it.
    Take,
}

/// The policy bundles of a host, in a session.
#[derive(Default)]
pub(super) struct PolicyPass {
    /// The part in the rollout of the bundle that the manifest names; `None`: each host goes for itself.
    pub rollout: Option<Rc<HostRollout>>,
    /// `None`: there is no bundle, and none is wanted.
    pub status: Option<PolicyStatus>,
    state: PolicyState,
    /// The bundle of the session's settings.
    opened: Option<ContentDigest>,
    /// This pass runs with a bundle on trial.
    is_on_trial: bool,
    /// The bundle failed in this pass, so another one has to bring the host back.
    goes_back: bool,
}

/// The settings with the bundle in force. Hosts without signers have none: whoever can write to the store would be root on
/// them.
pub(super) fn with_policy_in_force(
    settings: Settings,
    host: &Host,
) -> Result<(Settings, PolicyPass), PassError> {
    let mut pass = PolicyPass::default();
    if settings.signers.is_none() {
        return Ok((settings, pass));
    }
    pass.state = load_state(host, &settings.environment)?;
    let Some(digest) = &pass.state.in_force else {
        return Ok((settings, pass));
    };
    // Without it, whoever asks the store gets it back.
    let Some(Ok(files)) = (KeptBundles { host }).open(digest) else {
        return Ok((settings, pass));
    };
    pass.opened = Some(digest.clone());
    Ok((settings.with_policy(Some(files))?, pass))
}

fn load_state(host: &Host, environment: &str) -> Result<PolicyState, PassError> {
    PolicyState::load(host, environment).map_err(|error| match error {
        StateError::Root(error) => error.into(),
        error => Problem::new(error.to_string())
            .hint("remove it to go on with the roles of the package, and take the bundle of the manifest anew")
            .into(),
    })
}

impl Session {
    /// The settings with the bundle in force, if those of the session lack it: the host has lost it, or another pass has put
    /// it into force meanwhile.
    fn settings_in_force(
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

    fn settings_with(&self, files: Rc<PolicyFiles>) -> Result<Settings, Problem> {
        self.settings.with_policy(Some(files))
    }

    /// What the record of this host says of its bundle.
    pub(super) fn policy_record(&self, status: &PolicyStatus) -> AppRecord {
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
