//! Why no release can be selected for an operator's command.

use crate::problem::nearest;
use crate::release::record::ReleaseRecord;
use crate::release::record::quarantine::QuarantinedSha;
use crate::resource::Failure;

/// Most releases that a hint names.
const MAX_NAMES_SHOWN: usize = 8;

/// Why no release can be selected. All but the last two are mistakes in the request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SelectionError {
    #[error("{app} has no release `{name}`")]
    UnknownRelease {
        app: String,
        name: String,
        hint: String,
    },
    #[error("release {name} of {app} is {status} and cannot be activated")]
    Incomplete {
        app: String,
        name: String,
        status: &'static str,
    },
    #[error("release {name} of {app} has the sha that is already active, in {active}")]
    SameSha {
        app: String,
        name: String,
        active: String,
    },
    #[error("there is no earlier good release of {app}")]
    NoPreviousGood { app: String },
    #[error("no release of {app} is active yet")]
    NoneActive { app: String },
    #[error("{app} is held by {by}: {reason}")]
    Held {
        app: String,
        by: String,
        reason: String,
    },
    /// The caller may not run commands as the release's user.
    #[error("commands of {app} run as `{user}`")]
    OtherUser { app: String, user: String },
    #[error("{}", .0.describe())]
    Quarantined(QuarantinedSha),
    #[error("{}", .0.message)]
    Failed(Failure),
}

impl SelectionError {
    /// The error for an unknown release; its hint names existing ones.
    pub(super) fn unknown_release(app: &str, record: &ReleaseRecord, name: &str) -> SelectionError {
        let names = || {
            let entries = record.entries().iter().rev();
            entries.map(|entry| entry.name.as_str())
        };
        let latest: Vec<&str> = names().take(MAX_NAMES_SHOWN).collect();
        SelectionError::UnknownRelease {
            app: app.to_owned(),
            name: name.to_owned(),
            hint: match nearest(name, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if latest.is_empty() => "no release was ever built here".to_owned(),
                None => format!("there are {}", latest.join(", ")),
            },
        }
    }

    /// The remedy, if there is one.
    fn hint(&self) -> Option<String> {
        Some(match self {
            SelectionError::UnknownRelease { hint, .. } => hint.clone(),
            SelectionError::Incomplete { name, .. } => format!(
                "see `trueup history --release {name}`; `trueup releases` shows which are complete"
            ),
            SelectionError::SameSha { .. } => return None,
            SelectionError::NoPreviousGood { .. } => "`trueup releases` shows the existing releases; `trueup releases build` builds another, and `trueup releases activate` activates it".to_owned(),
            SelectionError::NoneActive { .. } => {
                "`trueup releases` shows the existing releases".to_owned()
            }
            SelectionError::Held { .. } => "a hold prevents activation; remove it from the manifest, or override it on this host with `--force`".to_owned(),
            SelectionError::OtherUser { user, .. } => {
                format!("`sudo trueup exec …`, or as `{user}` itself")
            }
            SelectionError::Quarantined(_) => "it failed its gate here; if the cause is fixed, lift the quarantine with `trueup converge --lift-quarantine REASON` once the manifest wants it".to_owned(),
            SelectionError::Failed(failure) => return failure.hint.clone(),
        })
    }
}

impl From<Failure> for SelectionError {
    fn from(failure: Failure) -> SelectionError {
        SelectionError::Failed(failure)
    }
}

impl From<SelectionError> for Failure {
    fn from(error: SelectionError) -> Failure {
        if let SelectionError::Failed(failure) = error {
            return failure;
        }
        let failure = Failure::new(error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
