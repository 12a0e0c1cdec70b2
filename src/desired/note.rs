//! A task for people that belongs to the next deployment of an app.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::hold::MAX_REASON_CHARS;
use crate::printable;
use crate::problem::Problem;
use crate::yaml;

/// Maximum number of open notes of an app.
pub(crate) const MAX_NOTES: usize = 50;

/// A task such as "run the reindex", shown until somebody ticks it off.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeployNote {
    #[serde(deserialize_with = "printable::deserialize_line")]
    pub text: String,
    #[serde(
        default,
        deserialize_with = "printable::deserialize_optional_line",
        skip_serializing_if = "Option::is_none"
    )]
    pub by: Option<String>,
    #[serde(default, deserialize_with = "yaml::deserialize_optional_time")]
    pub at: Option<Timestamp>,
}

/// Refuses what types cannot: notes appear in messages and notifications.
pub(super) fn check_notes(notes: &[DeployNote]) -> Result<(), Problem> {
    if notes.len() > MAX_NOTES {
        return Err(Problem::new(format!(
            "there are {} notes; at most {MAX_NOTES} are allowed",
            notes.len()
        )));
    }
    let longest = notes.iter().map(|note| note.text.chars().count()).max();
    match longest {
        Some(length) if length > MAX_REASON_CHARS => Err(Problem::new(format!(
            "a note is {length} characters long; at most {MAX_REASON_CHARS} are allowed"
        ))),
        _ => Ok(()),
    }
}
