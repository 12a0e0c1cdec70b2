//! How a sha reaches the hosts of an environment, as resolved for one app.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Amount;

/// How the hosts of an app take up a new sha.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum RolloutMode {
    /// Each host for itself, as soon as it sees the sha (`rollout: none`). Only the manifest says so, never an
    /// error.
    Independent,
    /// By permission, as the policy says.
    Coordinated(RolloutPolicy),
}

/// The policy of an app's rollouts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RolloutPolicy {
    /// How many serving hosts may be out at a time.
    pub max_unavailable: Amount,
    /// A tag: only hosts with the same value of it are out at a time.
    pub per: Option<String>,
    pub canary: Option<Canary>,
    /// How long a host must be healthy before the next one may go, in addition to its gate.
    pub min_ready: Duration,
    /// How many hosts may fail until the rollout ends: this many end it.
    pub max_failures: Amount,
    pub on_failure: OnFailure,
    /// Apps of the environment whose rollout must be done first, each once. Never the app itself; each has an
    /// entry in the manifest, and none waits for this app.
    pub after: Vec<String>,
    /// How long a rollout may make no progress until it counts as failed; `None`: any time.
    pub progress_deadline: Option<Duration>,
}

/// Hosts that go first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Canary {
    pub hosts: CanaryHosts,
    /// How long they must be healthy before the others go.
    pub bake: Duration,
}

/// Which hosts go first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum CanaryHosts {
    /// The first so many by name, from 1 to [`Canary::MAX_HOSTS`].
    First(u32),
    /// At most [`Canary::MAX_HOSTS`] of those with all of these tags. Never empty.
    Matching(BTreeMap<String, String>),
}

/// What happens when too many hosts fail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnFailure {
    /// No other host takes the sha.
    #[default]
    Halt,
    /// As `Halt`, and the hosts that have taken it go back to the previous sha.
    Rollback,
}

impl Canary {
    /// Maximum number of hosts that go first.
    pub(crate) const MAX_HOSTS: u32 = 20;
}

impl CanaryHosts {
    /// Whether a host with these tags can be one of them.
    pub(crate) fn admits(&self, tags: &BTreeMap<String, String>) -> bool {
        match self {
            CanaryHosts::First(_) => true,
            CanaryHosts::Matching(wanted) => wanted
                .iter()
                .all(|(tag, value)| tags.get(tag) == Some(value)),
        }
    }
}

impl Default for RolloutPolicy {
    fn default() -> RolloutPolicy {
        RolloutPolicy {
            max_unavailable: Amount::Percent(25),
            per: None,
            canary: None,
            min_ready: Duration::ZERO,
            max_failures: Amount::Count(1),
            on_failure: OnFailure::Halt,
            after: Vec::new(),
            progress_deadline: None,
        }
    }
}

impl Default for RolloutMode {
    fn default() -> RolloutMode {
        RolloutMode::Coordinated(RolloutPolicy::default())
    }
}

impl RolloutMode {
    /// The policy; `None`: each host for itself.
    pub(crate) fn policy(&self) -> Option<&RolloutPolicy> {
        match self {
            RolloutMode::Independent => None,
            RolloutMode::Coordinated(policy) => Some(policy),
        }
    }
}
