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
    /// Why the bundle in force cannot be read on this host.
    lost: Option<String>,
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
    match (KeptBundles { host }).open(digest) {
        Some(Ok(files)) => Ok((settings.with_policy(Some(files))?, pass)),
        Some(Err(why)) => {
            pass.lost = Some(why);
            Ok((settings, pass))
        }
        None => {
            pass.lost = Some("it is not in /var/lib/trueup/policy".into());
            Ok((settings, pass))
        }
    }
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
    /// The settings with the bundle in force if this host has lost it; `None`: the session has it.
    fn recover_policy(&self, source: ManifestSource) -> Result<Option<Settings>, PassError> {
        let policy = self.policy.borrow();
        let (Some(why), Some(digest)) = (&policy.lost, &policy.state.in_force) else {
            return Ok(None);
        };
        let ManifestSource::Store(ask, _) = source else {
            return Err(PassError::NoPolicy(why.clone()));
        };
        let missing = |also: String| PassError::NoPolicy(format!("{why}; {also}"));
        let store = &**self.shared_store()?;
        let packed = policy::fetch(store, digest).map_err(|error| missing(error.to_string()))?;
        let files = policy::open(digest, &packed).map_err(missing)?;
        if ask.save_last_good {
            KeptBundles { host: &self.host }.save(digest, &packed)?;
        }
        Ok(Some(self.settings.with_policy(Some(files))?))
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
