//! The quarantine of a sha on this host.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::desired::Sha;
use crate::resource::one_line;

/// A sha that failed its gate here: trueup does not activate it until an operator lifts the quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QuarantinedSha {
    pub sha: Sha,
    /// The release that failed.
    pub release: String,
    pub at: Timestamp,
    /// The gate's reason, in one line.
    pub why: String,
    /// The sha that failed, if this one only has the same files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_files_as: Option<Sha>,
}

impl QuarantinedSha {
    pub(super) fn truncate_reason(&mut self) {
        self.why = one_line(&self.why);
    }

    /// The quarantine of another sha with the same files.
    pub(in crate::release) fn of_same_files(&self, sha: &Sha, at: Timestamp) -> QuarantinedSha {
        let failed = self.same_files_as.as_ref().unwrap_or(&self.sha);
        QuarantinedSha {
            sha: sha.clone(),
            release: self.release.clone(),
            at,
            why: one_line(&self.why),
            same_files_as: Some(failed.clone()),
        }
    }

    /// Without the reason.
    pub(crate) fn describe_shortly(&self) -> String {
        format!(
            "{} is quarantined on this host since {:.0}",
            self.sha.short(),
            self.at
        )
    }

    /// `quarantined since …: health answered 500`, in a line.
    pub(crate) fn describe(&self) -> String {
        let line = match one_line(&self.why) {
            line if line.is_empty() => "no reason on record".to_owned(),
            line => line,
        };
        let same = match &self.same_files_as {
            Some(failed) => format!("its files are those of {}: ", failed.short()),
            None => String::new(),
        };
        format!("{}: {same}{line}", self.describe_shortly())
    }
}
