//! The bundle in force on a host, and what a session knows of its bundles.

use std::rc::Rc;

use crate::desired::{ContentDigest, DesiredApp};
use crate::fleet::rollout::HostRollout;
use crate::pass::error::PassError;
use crate::policy::{KeptBundles, PolicyState, PolicyStatus};
use crate::ports::Host;
use crate::ports::state::StateError;
use crate::problem::Problem;
use crate::settings::Settings;

/// What a run of the chain does about a bundle that is not in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pass) enum PolicyUse {
    /// Nothing: it stays with the one in force.
    InForce,
    /// Shows what it would change.
    Preview,
    /// Takes it, as soon as the others permit it.
    Take,
}

/// The policy bundles of a host, in a session.
#[derive(Default)]
pub(in crate::pass) struct PolicyPass {
    /// The part in the rollout of the bundle that the manifest names; `None`: each host goes for itself.
    pub rollout: Option<Rc<HostRollout>>,
    /// The bundle that the manifest names, as an app.
    pub wanted: Option<DesiredApp>,
    /// `None`: there is no bundle, and none is wanted.
    pub status: Option<PolicyStatus>,
    pub(super) state: PolicyState,
    /// The bundle of the session's settings.
    pub(super) opened: Option<ContentDigest>,
    /// This pass runs with a bundle on trial.
    pub(super) is_on_trial: bool,
    /// The bundle failed in this pass, so another one has to bring the host back.
    pub(super) goes_back: bool,
}

/// The settings with the bundle in force. Hosts without signers have none: whoever can write to the store would be root on
/// them.
pub(in crate::pass) fn with_policy_in_force(
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

pub(super) fn load_state(host: &Host, environment: &str) -> Result<PolicyState, PassError> {
    PolicyState::load(host, environment).map_err(|error| match error {
        StateError::Root(error) => error.into(),
        error => Problem::new(error.to_string())
            .hint("remove it to go on with the roles of the package, and take the bundle of the manifest anew")
            .into(),
    })
}
