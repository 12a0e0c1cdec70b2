//! Whether a rollout has made progress within its `progress_deadline`. Only shown, and for CI: it changes nothing on hosts.
//!
//! All times are the store's: no clock of a host or an operator matters.

use std::time::Duration;

use jiff::Timestamp;

use super::target::RolloutTarget;
use crate::desired::RolloutPolicy;
use crate::exit::Exit;
use crate::fleet::rollout::{EntryState, RolloutError, RolloutView, marks_prefix, register_key};
use crate::ports::store::GetOutcome;

/// Adds when the rollout last made progress, and whether that is too long ago.
pub(super) fn add_progress(
    target: &RolloutTarget<'_>,
    policy: &RolloutPolicy,
    view: &mut RolloutView,
) -> Result<(), RolloutError> {
    let Some(deadline) = policy.progress_deadline.filter(|_| is_under_way(view)) else {
        return Ok(());
    };
    view.last_progress = last_progress(target, policy, view)?;
    let limit = deadline.saturating_add(expected_silence(policy, view));
    // A store that does not say what time it is lets nobody judge.
    let (Some(last), Some(now)) = (view.last_progress, target.store.server_time()) else {
        return Ok(());
    };
    let silent = Duration::try_from(now.duration_since(last)).unwrap_or_default();
    if silent >= limit {
        let (silent, limit) = (silent.as_secs(), limit.as_secs());
        view.set_overdue(format!(
            "no progress for {silent} s, and at most {limit} s are expected"
        ));
    }
    Ok(())
}

/// Whether something should happen. Who waits for a person makes no progress on purpose.
fn is_under_way(view: &RolloutView) -> bool {
    view.outcome == Exit::Pending
        || view.is_stuck_in_local_failures() && view.outcome == Exit::Failed
}

/// How long nothing happens in a rollout that goes well.
fn expected_silence(policy: &RolloutPolicy, view: &RolloutView) -> Duration {
    let bake = match (view.state, &policy.canary) {
        (Some(EntryState::Canary), Some(canary)) => canary.bake,
        _ => Duration::ZERO,
    };
    bake.max(policy.min_ready)
}

/// When the register of the app last changed, or a host was proven at the sha; of the apps that come first as well. Before
/// the first host begins, and of a rolling restart, when the manifest was written; and when a host restarted.
fn last_progress(
    target: &RolloutTarget<'_>,
    policy: &RolloutPolicy,
    view: &RolloutView,
) -> Result<Option<Timestamp>, RolloutError> {
    let (store, environment) = (target.store, target.environment);
    let modified = |key: &str| {
        Ok::<_, RolloutError>(match store.get(key, None)? {
            GetOutcome::Object(object) => Some(object.modified),
            GetOutcome::Missing | GetOutcome::Unchanged => None,
        })
    };
    let restart = view.restart.as_ref();
    let restart = restart.filter(|restart| !restart.pending.is_empty());
    let mut last = match view.state {
        Some(_) if restart.is_none() => None,
        _ => modified(target.manifest_key)?,
    };
    last = last.max(restart.and_then(|restart| restart.last_restart));
    let waits_for_others = view.proven.is_empty();
    let others = policy.after.iter().filter(|_| waits_for_others);
    for app in others.map(String::as_str).chain([target.app]) {
        last = last.max(modified(&register_key(environment, app))?);
        // Of another app, any sha will do.
        let sha = view.wanted.as_ref().filter(|_| app == target.app);
        let marks = store.list(&marks_prefix(environment, app, sha))?;
        last = last.max(marks.iter().map(|mark| mark.modified).max());
    }
    Ok(last)
}
