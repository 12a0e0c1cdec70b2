//! What a host remembers of its policy bundles: which one is in force, which one is on trial, and which one failed.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::desired::ContentDigest;
use crate::ports::Host;
use crate::ports::root::RootError;
use crate::ports::state::{Document, StateError};

const VERSION: u32 = 1;

const DOCUMENT: Document = Document::new(VERSION, 64 << 10);

/// The policy bundles of this host (`policy/state.json` of the state folder).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PolicyState {
    version: u32,
    /// Each environment has its own bundles.
    environment: String,
    /// `None`: the roles of the package and those beside the settings.
    pub in_force: Option<ContentDigest>,
    /// When it came into force, by this host's own clock.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// The one in force before.
    #[serde(default)]
    pub previous: Option<ContentDigest>,
    #[serde(default)]
    pub trial: Option<PolicyTrial>,
    /// Not tried again until the manifest names another one, or an operator lifts its quarantine.
    #[serde(default)]
    pub failed: Option<FailedPolicy>,
}

/// A bundle that no pass has shown to work here yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PolicyTrial {
    pub digest: ContentDigest,
    /// Passes that began with it.
    pub attempts: u32,
    /// The resources that failed before: they say nothing about the bundle.
    #[serde(default)]
    pub failing_before: Vec<String>,
}

/// A bundle that failed here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailedPolicy {
    pub digest: ContentDigest,
    /// One line.
    pub reason: String,
    /// The resources that failed before its trial.
    #[serde(default)]
    pub failing_before: Vec<String>,
}

impl PolicyState {
    fn path(host: &Host) -> PathBuf {
        host.state_path("policy/state.json")
    }

    /// The state of this host in an environment. A damaged file is an error: without it a host would go back to the roles of
    /// the package.
    pub(crate) fn load(host: &Host, environment: &str) -> Result<PolicyState, StateError> {
        let known: Option<PolicyState> = DOCUMENT.load(&host.root, &PolicyState::path(host))?;
        let known = known.filter(|known| known.environment == environment);
        Ok(known.unwrap_or_else(|| PolicyState {
            version: VERSION,
            environment: environment.to_owned(),
            ..PolicyState::default()
        }))
    }

    pub(crate) fn save(&self, host: &Host) -> Result<(), RootError> {
        DOCUMENT.save(&host.root, &PolicyState::path(host), self)
    }

    /// The bundles that the host keeps: that in force, the one before, and the one on trial.
    pub(crate) fn kept(&self) -> impl Iterator<Item = &ContentDigest> {
        let trial = self.trial.as_ref().map(|trial| &trial.digest);
        self.in_force.iter().chain(&self.previous).chain(trial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::state::testing::assert_round_trip;

    #[test]
    fn example_state_survives_a_round_trip() {
        assert_round_trip::<PolicyState>(&DOCUMENT, "policy-state.json");
    }
}
