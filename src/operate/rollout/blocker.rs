//! Hosts that keep a rollout from going on, and those that are at work, as far as their records say. For people: it changes
//! nothing on hosts.

use std::time::Duration;

use jiff::Timestamp;

use super::target::RolloutTarget;
use crate::desired::RolloutPolicy;
use crate::exit::Exit;
use crate::fleet::rollout::RolloutView;
use crate::fleet::{self, NodeRecord, WAITS_FOR_SLOT};
use crate::operate::CommandError;
use crate::pass::PassError;

/// How many hosts are looked up for one answer.
const MAX_LOOKED_UP: usize = 20;

/// Names the host that everybody waits for although nobody says so, and the command that mends it: one that was not heard
/// of lately, cannot carry out the restart that was asked for, or does not become healthy.
pub(super) fn show_blocker(
    target: &RolloutTarget<'_>,
    policy: &RolloutPolicy,
    now: Timestamp,
    view: &mut RolloutView,
) -> Result<(), CommandError> {
    if let Some((number, node)) = silent_holder(target, view)? {
        view.wait_for_slot(number, node);
        return Ok(());
    }
    view.waits_for = match silent_host(view) {
        Some(silent) => Some(silent),
        None => failing_host(target, view)?,
    };
    if view.waits_for.is_none() {
        let limit = (target.fleet.heartbeat() * 2).saturating_add(policy.min_ready);
        view.wait_for_long_holder(now, limit);
    }
    Ok(())
}

/// The hosts that are deploying the wanted sha. They say so once, when they begin.
pub(super) fn hosts_at_work(
    target: &RolloutTarget<'_>,
    view: &RolloutView,
) -> Result<Vec<String>, CommandError> {
    let (store, environment) = (target.store, target.environment);
    let nodes = fleet::recent_nodes(store, environment, target.fleet.gone_after());
    let mut nodes = nodes.map_err(PassError::Store)?;
    let has_failed = |node: &String| view.local_failures.iter().any(|other| other.node == *node);
    nodes.retain(|node| !view.proven.contains(node) && !has_failed(node));
    let mut at_work = Vec::new();
    for node in nodes.into_iter().take(MAX_LOOKED_UP) {
        let record = fleet::node_record(store, environment, &node).map_err(PassError::Store)?;
        if record.is_some_and(|record| is_deploying(&record, view)) {
            at_work.push(node);
        }
    }
    Ok(at_work)
}

fn is_deploying(record: &NodeRecord, view: &RolloutView) -> bool {
    let app = record.apps.get(&view.app);
    let is_begun =
        |outcome| outcome == Some(Exit::Pending) && record.last_pass.outcome == Exit::Pending;
    app.is_some_and(|app| app.wanted == view.wanted && is_begun(app.outcome))
}

/// The first holder of a slot that was not heard of lately: nobody else would ever free it.
fn silent_holder(
    target: &RolloutTarget<'_>,
    view: &RolloutView,
) -> Result<Option<(u32, String)>, CommandError> {
    let limit = target.fleet.heartbeat() * 2;
    for held in view.holders.iter().take(MAX_LOOKED_UP) {
        let node = &held.holder.member.node;
        let silence = fleet::node_silence(target.store, target.environment, node);
        let silence: Option<Duration> = silence.map_err(PassError::Store)?;
        if silence.is_none_or(|silence| silence >= limit) {
            return Ok(Some((held.number, node.clone())));
        }
    }
    Ok(None)
}

/// A host that a restart waits for and that was not heard of lately: it may never come back.
fn silent_host(view: &RolloutView) -> Option<String> {
    let node = view.restart.as_ref()?.silent.first()?;
    let environment = &view.environment;
    Some(format!(
        "waits for the restart of {node}, which was not heard of lately; `trueup fleet --env {environment} --forget {node}`, \
         if it does not come back"
    ))
}

/// A host that cannot carry out the restart that was asked for.
fn failing_host(
    target: &RolloutTarget<'_>,
    view: &RolloutView,
) -> Result<Option<String>, CommandError> {
    let pending = view.restart.iter().flat_map(|restart| &restart.pending);
    for node in pending.take(MAX_LOOKED_UP) {
        let record = fleet::node_record(target.store, target.environment, node);
        let record = record.map_err(PassError::Store)?;
        if let Some(why) = record.and_then(|record| reason(&record, view)) {
            return Ok(Some(format!(
                "waits for the restart of {node}, which cannot do it: {why}; `trueup converge` on {node} tries again at once, \
                 when that is mended"
            )));
        }
    }
    Ok(None)
}

/// Why a host does not restart the app, if its last pass failed; or while nobody is out, if it waits for something else than
/// a slot.
fn reason(record: &NodeRecord, view: &RolloutView) -> Option<String> {
    let app = record.apps.get(&view.app);
    let of_app = app.and_then(|app| Some((app.outcome?, app.why.clone())));
    let of_pass = (record.last_pass.outcome, record.last_pass.why.clone());
    let mut found = of_app.into_iter().chain([of_pass]);
    let (_, why) = found.find(|(outcome, why)| match outcome {
        Exit::Failed | Exit::BadInput => true,
        Exit::Waiting if view.holders.is_empty() => {
            let mut why = why.iter();
            why.any(|why| !why.contains(WAITS_FOR_SLOT))
        }
        _ => false,
    })?;
    Some(why.unwrap_or_else(|| "its last pass failed".to_owned()))
}
