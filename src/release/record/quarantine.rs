//! The quarantine of a sha on this host.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::desired::Sha;

/// A sha that failed its gate here: trueup does not activate it until an operator lifts the quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QuarantinedSha {
    pub sha: Sha,
    /// The release that failed.
    pub release: String,
    pub at: Timestamp,
    /// The gate's reason, in one line: everybody may read it, so it contains no program output.
    pub why: String,
}

impl QuarantinedSha {
    pub(super) fn truncate_reason(&mut self) {
        let line = self.why.lines().next().unwrap_or_default();
        self.why = line.to_owned();
    }

    /// `quarantined since …: health answered 500`, in a line.
    pub(crate) fn describe(&self) -> String {
        let line = self.why.lines().next().unwrap_or("no reason on record");
        format!(
            "{} is quarantined on this host since {:.0}: {line}",
            self.sha.short(),
            self.at
        )
    }
}
