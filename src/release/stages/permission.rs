//! The permission of the fleet: asked for before the database is migrated, and once more right before the switch.

use crate::desired::Sha;
use crate::ports::Host;
use crate::ports::permission::{PermitDecision, Purpose};
use crate::release::app::spec::ReleaseSpec;
use crate::release::deployment::{DeployOutcome, Deployment};
use crate::resource::Failure;

/// What to do about a sha that failed on another host.
const LIFT_HINT: &str =
    "publish another sha; or, if the cause is fixed, `trueup rollout quarantine lift`";

/// Asks for permission to activate. `None`: it is granted.
pub(crate) fn request(deployment: &Deployment<'_>) -> Option<DeployOutcome> {
    ask(deployment, |purpose, serves| {
        let permission = deployment.host.permissions.of(&deployment.spec.app);
        permission.request(purpose, serves)
    })
}

/// Asks again, if the last answer is too old.
pub(crate) fn confirm(deployment: &Deployment<'_>) -> Option<DeployOutcome> {
    ask(deployment, |purpose, serves| {
        let permission = deployment.host.permissions.of(&deployment.spec.app);
        permission.confirm(purpose, serves)
    })
}

fn ask(
    deployment: &Deployment<'_>,
    asked: impl FnOnce(Purpose, bool) -> PermitDecision,
) -> Option<DeployOutcome> {
    let purpose = activation_purpose(deployment.spec, &deployment.sha);
    match asked(purpose, deployment.previous.is_some()) {
        PermitDecision::Granted => None,
        PermitDecision::Wait(why) => Some(DeployOutcome::Waiting(why)),
        PermitDecision::Refused(why) => Some(DeployOutcome::RefusedByFleet(quarantined(&why))),
    }
}

/// What the activation of a sha is.
pub(crate) fn activation_purpose(spec: &ReleaseSpec, sha: &Sha) -> Purpose {
    match spec.wanted.as_ref() == Some(sha) {
        true => Purpose::Deploy,
        // A pin of an operator on this host, or what the rollout lets it be at instead.
        false => Purpose::Back,
    }
}

/// Why a complete release would not be activated now; `None`: it would be. Takes nothing.
pub(crate) fn obstacle(
    spec: &ReleaseSpec,
    purpose: Purpose,
    serves: bool,
    host: &Host,
) -> Option<PermitDecision> {
    let permission = host.permissions.of(&spec.app);
    let answer = permission.peek(purpose, serves);
    (answer != PermitDecision::Granted).then_some(answer)
}

/// Why a release of a sha is refused that failed on another host.
pub(crate) fn quarantined(why: &str) -> Failure {
    Failure::new(format!("the sha is quarantined: {why}")).hint(LIFT_HINT)
}

/// Says that the release failed, before anything is done about it: a pass that is killed says so later.
pub(crate) fn note_failure(spec: &ReleaseSpec, host: &Host, why: &Failure) {
    let permission = host.permissions.of(&spec.app);
    if let Err(error) = permission.note_failure(&why.summary(), &why.message) {
        tracing::warn!("{}: its rollout: {error}", spec.app);
    }
}
