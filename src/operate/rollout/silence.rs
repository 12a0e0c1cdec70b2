//! Hosts that hold a slot and were not heard of lately.

use super::target::RolloutTarget;
use crate::fleet;
use crate::fleet::rollout::RolloutView;
use crate::operate::CommandError;

/// How many holders of slots are looked up for one answer.
const MAX_SHOWN_HOLDERS: usize = 20;

/// Names the command for a slot whose host was not heard of lately: nobody else would ever free it.
pub(super) fn show_silent_holder(
    target: &RolloutTarget<'_>,
    view: &mut RolloutView,
) -> Result<(), CommandError> {
    let limit = target.fleet.heartbeat() * 2;
    for held in view.holders.iter().take(MAX_SHOWN_HOLDERS) {
        let (number, node) = (held.number, held.holder.member.node.clone());
        let silence = fleet::node_silence(target.store, target.environment, &node);
        let silence = silence.map_err(crate::pass::PassError::Store)?;
        if silence.is_none_or(|silence| silence >= limit) {
            view.wait_for_slot(number, node);
            break;
        }
    }
    Ok(())
}
