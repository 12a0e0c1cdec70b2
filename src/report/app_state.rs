//! The state of an app in one word.

use serde::{Deserialize, Serialize};

use crate::exit::Exit;

/// State of an app on a host. The order is the merge rule: of two states the later variant wins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AppState {
    /// It is at the wanted sha, and what runs from it matches its description.
    #[default]
    Converged,
    /// A pass would change it, or an obligation is owed.
    Pending,
    /// It waits for the end of a pin, or an operator masked its service.
    Waiting,
    /// An operator put a hold on it in the manifest.
    Held,
    /// As wanted when the store last answered.
    Stale,
    /// The wanted sha failed its health gate; the previous release is active.
    RolledBack,
    /// trueup refuses the manifest in the store; the last good one is in force.
    Refused,
    Failed,
}

impl AppState {
    pub(crate) fn word(self) -> &'static str {
        match self {
            AppState::Converged => "converged",
            AppState::Pending => "pending",
            AppState::Stale => "stale",
            AppState::Waiting => "waiting",
            AppState::Held => "held",
            AppState::RolledBack => "rolled back",
            AppState::Refused => "refused",
            AppState::Failed => "failed",
        }
    }

    /// The matching command outcome; `None` if converged.
    pub(crate) fn outcome(self) -> Option<Exit> {
        match self {
            AppState::Converged => None,
            AppState::Pending => Some(Exit::Pending),
            AppState::Stale => Some(Exit::Stale),
            AppState::Waiting | AppState::Held => Some(Exit::Waiting),
            AppState::RolledBack => Some(Exit::RolledBack),
            AppState::Refused => Some(Exit::BadInput),
            AppState::Failed => Some(Exit::Failed),
        }
    }
}
