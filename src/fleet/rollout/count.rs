//! The hosts of an app: how many slots they get, and which of them are canaries.

use super::entry::{self, HostCount};
use super::object::MAX_SLOTS;
use super::register::Counted;
use super::store::AppHost;
use crate::desired::{Canary, CanaryHosts, RolloutPolicy, Sha};

/// Counts the live hosts for an entry of a sha. `needs_canaries`: the sha has never been everywhere. `canaries`: those that the
/// entry has already.
pub(super) fn count(
    hosts: &[AppHost],
    sha: &Sha,
    policy: &RolloutPolicy,
    needs_canaries: bool,
    canaries: &[entry::Canary],
) -> Counted {
    let live: Vec<&AppHost> = hosts.iter().filter(|host| host.is_live).collect();
    let serving = live.iter().filter(|host| host.serves).count();
    let takes_it = |host: &&AppHost| host.wanted.as_ref() == Some(sha);
    let expected: Vec<&AppHost> = live.iter().copied().filter(takes_it).collect();
    // If the manifest has changed since the entry was opened: that is no want of canaries, which would halt it.
    let candidates = if expected.is_empty() {
        &live
    } else {
        &expected
    };
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Counted {
        count: HostCount {
            hosts: number(expected.len()),
            serving: number(serving),
        },
        slots: number(policy.max_unavailable.of(live.len()).min(live.len().max(1))).min(MAX_SLOTS),
        gone_canaries: canaries
            .iter()
            .filter(|canary| !live.iter().any(|host| host.node == canary.node))
            .map(|canary| canary.node.clone())
            .collect(),
        canaries: match needs_canaries {
            true => choose_canaries(candidates, policy),
            false => Ok(Vec::new()),
        },
    }
}

/// The hosts that go first: among those that serve, in the order of their names.
fn choose_canaries(live: &[&AppHost], policy: &RolloutPolicy) -> Result<Vec<String>, String> {
    let Some(canary) = &policy.canary else {
        return Ok(Vec::new());
    };
    let mut serving: Vec<&str> = live
        .iter()
        .filter(|host| host.serves && host.matches_canary)
        .map(|host| host.node.as_str())
        .collect();
    serving.sort_unstable();
    let (limit, wanted) = match &canary.hosts {
        CanaryHosts::First(count) => {
            let count = usize::try_from(*count).unwrap_or(usize::MAX);
            (count, format!("`hosts: {count}`"))
        }
        CanaryHosts::Matching(tags) => {
            let tags = tags.iter().map(|(key, value)| format!("{key}: {value}"));
            let tags: Vec<String> = tags.collect();
            (
                Canary::MAX_HOSTS as usize,
                format!("`match: {{{}}}`", tags.join(", ")),
            )
        }
    };
    serving.truncate(limit);
    match serving.is_empty() {
        true => Err(format!(
            "no live host that serves the app is a canary by {wanted}"
        )),
        false => Ok(serving.into_iter().map(str::to_owned).collect()),
    }
}
