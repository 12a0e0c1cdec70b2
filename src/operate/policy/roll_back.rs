//! `rollback ENV --policy`: back to the bundle before.

use super::{PolicyTarget, none};
use crate::desired::{Action, ContentDigest, POLICY_APP, PublishSummary};
use crate::fleet::rollout::RolloutStore;
use crate::operate::CommandError;
use crate::operate::rollout::RolloutTarget;
use crate::policy;
use crate::problem::Problem;

/// Goes back to `to`, or to the bundle before; without any, to the roles of the package. Returns where it went.
pub(crate) fn roll_back(
    target: &PolicyTarget<'_>,
    to: Option<&str>,
) -> Result<(Option<ContentDigest>, PublishSummary), CommandError> {
    let current = target.read()?;
    let Some(from) = &current.policy else {
        return Err(none(target.environment));
    };
    let to = match to {
        Some(text) => Some(target.find(Some(text))?),
        None => current.previous.clone(),
    };
    if let Some(digest) = &to {
        if digest == from {
            return Err(CommandError::Usage(Problem::new(format!(
                "{} names sha256:{} already",
                target.environment,
                digest.short()
            ))));
        }
        // Before anybody is sent there.
        let packed = policy::fetch(target.store, digest);
        let packed = packed.map_err(|error| CommandError::failed(error.to_string()))?;
        policy::unpack(&packed).map_err(CommandError::failed)?;
        check_quarantine(target, digest)?;
    }
    // What it goes away from is nothing to go back to.
    let published = target.publish(Action::Rollback, &current, to.as_ref(), None)?;
    Ok((to, published))
}

fn check_quarantine(target: &PolicyTarget<'_>, digest: &ContentDigest) -> Result<(), CommandError> {
    let rollout = RolloutTarget {
        store: target.store,
        environment: target.environment,
        app: POLICY_APP,
        manifest_key: target.manifest_key,
        fleet: target.fleet,
    };
    match rollout.objects().quarantine(&digest.rollout_sha())? {
        Some(found) if found.object.in_force => Err(CommandError::Quarantined(
            Problem::new(format!(
                "sha256:{} is quarantined: {}",
                digest.short(),
                found.object.reason
            ))
            .hint("name another one with --to: `trueup policy list` shows them"),
        )),
        _ => Ok(()),
    }
}
