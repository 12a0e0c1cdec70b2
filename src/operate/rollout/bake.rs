//! How long the canaries of a rollout still bake, as far as the store shows it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::target::RolloutTarget;
use crate::desired::RolloutPolicy;
use crate::fleet::rollout::{Bake, RolloutError, RolloutView, marks_prefix};

/// The bakes of the canaries that everybody waits for. A canary has baked since it marked itself as proven, by the store's
/// clock; its own count, which decides, is on its disk.
pub(super) fn bakes(
    target: &RolloutTarget<'_>,
    policy: &RolloutPolicy,
    view: &RolloutView,
) -> Result<Vec<Bake>, RolloutError> {
    let waiting: Vec<&str> = view
        .canaries
        .iter()
        .filter(|canary| !canary.passed)
        .map(|canary| canary.node.as_str())
        .collect();
    let (Some(canary), Some(sha)) = (&policy.canary, &view.wanted) else {
        return Ok(Vec::new());
    };
    if waiting.is_empty() || canary.bake.is_zero() {
        return Ok(Vec::new());
    }
    let prefix = marks_prefix(target.environment, target.app, Some(sha));
    let listed = target.store.list(&prefix)?;
    let marks: BTreeMap<&str, Timestamp> = listed
        .iter()
        .filter_map(|mark| Some((mark.key.strip_prefix(&prefix)?, mark.modified)))
        .collect();
    // A store that does not say what time it is lets nobody tell.
    let Some(now) = target.store.server_time() else {
        return Ok(Vec::new());
    };
    let baking = waiting.into_iter().filter_map(|node| {
        let since = now.duration_since(*marks.get(node)?);
        let since = Duration::try_from(since).unwrap_or_default();
        Some(Bake {
            node: node.to_owned(),
            at_least_s: canary.bake.saturating_sub(since).as_secs(),
        })
    });
    Ok(baking.collect())
}
