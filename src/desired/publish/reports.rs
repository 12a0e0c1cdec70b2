//! What `publish` asks the fleet.

use std::collections::BTreeMap;

use crate::desired::Sha;
use crate::ports::store::StoreError;

/// A host, as it reports itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReportedHost {
    pub node: String,
    pub tags: BTreeMap<String, String>,
    /// Whether it may write what rollouts need; `None`: its trueup knows none.
    pub may_take_part: Option<bool>,
    /// The version of its trueup.
    pub agent: String,
    /// The apps that it runs.
    pub apps: Vec<String>,
}

/// The hosts of an environment that are not gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ReportedHosts {
    pub hosts: Vec<ReportedHost>,
    /// Not every report could be read.
    pub is_incomplete: bool,
}

/// What `publish` asks the fleet.
pub(crate) trait FleetReports {
    /// The hosts of the environment. Reads a record for each, so it is asked only if that decides something.
    fn hosts(&mut self) -> Result<ReportedHosts, StoreError>;

    /// Whether a rollout of the app was ever begun in the environment.
    fn has_rollouts(&mut self, app: &str) -> Result<bool, StoreError>;
    /// Whether hosts served an app at this sha. The error is one line.
    fn was_served(&mut self, app: &str, sha: &Sha) -> Result<ServedBefore, String>;
}

/// What is known of a sha in an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServedBefore {
    Yes,
    /// It failed, and no host activates it.
    Quarantined,
    /// No host was ever proven at it.
    Never,
}
