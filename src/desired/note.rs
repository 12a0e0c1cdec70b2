//! A task for people that belongs to the next deployment of an app.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

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
    /// By which it is ticked off, from 1. It stays when others are ticked off, so doing that twice cannot hit another note.
    /// 0: the manifest does not say, until [`number_notes`].
    #[serde(default)]
    pub number: u32,
    #[serde(deserialize_with = "printable::deserialize_line")]
    pub text: String,
    #[serde(
        default,
        deserialize_with = "printable::deserialize_optional_line",
        skip_serializing_if = "Option::is_none"
    )]
    pub by: Option<String>,
    #[serde(
        default,
        deserialize_with = "yaml::deserialize_optional_time",
        skip_serializing_if = "Option::is_none"
    )]
    pub at: Option<Timestamp>,
}

/// Gives those without a number (people write manifests, too) the lowest free ones.
pub(super) fn number_notes(notes: &mut [DeployNote]) {
    let taken: BTreeSet<u32> = notes.iter().map(|note| note.number).collect();
    let mut free = (1..).filter(|number| !taken.contains(number));
    for note in notes.iter_mut().filter(|note| note.number == 0) {
        note.number = free.next().unwrap_or_default();
    }
}

/// The number of the note that is added next.
pub(super) fn next_number(notes: &[DeployNote]) -> u32 {
    let highest = notes.iter().map(|note| note.number).max();
    highest.unwrap_or_default().saturating_add(1)
}

pub(super) fn deserialize_notes<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<DeployNote>, D::Error> {
    let mut notes = Vec::<DeployNote>::deserialize(deserializer)?;
    number_notes(&mut notes);
    Ok(notes)
}

/// Refuses what types cannot: notes appear in messages and notifications.
pub(super) fn check_notes(notes: &[DeployNote]) -> Result<(), Problem> {
    if notes.len() > MAX_NOTES {
        return Err(Problem::new(format!(
            "there are {} notes; at most {MAX_NOTES} are allowed",
            notes.len()
        )));
    }
    let mut numbers = BTreeSet::new();
    if let Some(note) = notes.iter().find(|note| !numbers.insert(note.number)) {
        return Err(Problem::new(format!(
            "two notes have the number {}",
            note.number
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

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(yaml: &str) -> Result<Vec<(u32, String)>, Problem> {
        let tree = yaml::parse("m.yml", yaml.as_bytes(), yaml::ParseLimits::default())?;
        let mut notes: Vec<DeployNote> = yaml::decode(&tree)?;
        number_notes(&mut notes);
        check_notes(&notes)?;
        Ok(notes
            .into_iter()
            .map(|note| (note.number, note.text))
            .collect())
    }

    #[test]
    fn notes_without_a_number_get_the_lowest_free_ones() {
        let numbered = notes("[{text: a}, {text: b, number: 1}, {text: c}, {text: d, number: 3}]");
        let numbers: Vec<u32> = numbered.unwrap().into_iter().map(|note| note.0).collect();
        assert_eq!(numbers, [2, 1, 4, 3]);
    }

    #[test]
    fn number_names_one_note() {
        let refused = notes("[{text: a, number: 2}, {text: b, number: 2}]").unwrap_err();
        assert_eq!(refused.to_string(), "two notes have the number 2");
    }
}
