//! A freeze of an app by an operator, as the manifest says it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Sha;
use crate::printable;
use crate::yaml;

/// Maximum length of a reason: it appears in messages, reports and records.
pub(crate) const MAX_REASON_CHARS: usize = 2000;

/// A freeze by an operator.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hold {
    /// The sha that the app is frozen at: hosts take this one and no other. `None`: each host stays where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha: Option<Sha>,
    #[serde(deserialize_with = "printable::deserialize_line")]
    pub reason: String,
    #[serde(deserialize_with = "printable::deserialize_line")]
    pub by: String,
    /// Without it the hold lasts until an operator removes it.
    #[serde(default, deserialize_with = "yaml::deserialize_optional_end")]
    pub until: Option<Timestamp>,
}

impl Hold {
    /// Whether it lasts at this time, by the store's clock.
    pub(crate) fn is_in_force(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Whether no host activates this sha while it lasts.
    pub(crate) fn blocks(&self, sha: &Sha) -> bool {
        self.sha.as_ref() != Some(sha)
    }

    /// `held at 4f2c9d0 by ana until 2026-11-22T00:00:00Z: db maintenance`.
    pub(crate) fn description(&self) -> String {
        let until = self.until;
        let until = until.map_or_else(|| "it is lifted".into(), |until| until.to_string());
        let at = self.sha.as_ref();
        let at = at.map_or(String::new(), |sha| format!(" at {}", sha.short()));
        format!("held{at} by {} until {until}: {}", self.by, self.reason)
    }
}
