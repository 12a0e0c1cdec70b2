//! An operator's pin of a release on this host.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::desired::Sha;

/// An operator's rollback on this host, in force until the manifest wants another sha.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pin {
    pub release: String,
    pub sha: Sha,
    /// The sha that the manifest wanted when the pin was set.
    pub instead_of: Option<Sha>,
    pub by: String,
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Pin {
    pub(crate) fn describe(&self) -> String {
        let reason = self.reason.as_deref().unwrap_or("no reason given");
        format!(
            "pinned to {} by {} since {:.0}: {reason}",
            self.release, self.by, self.at
        )
    }
}
