//! The names in schedules.

/// The place of a word in a list of names, in full or by its first three letters, in any case.
pub(super) fn name_index(names: &[&str], word: &str) -> Option<u32> {
    let is_name =
        |name: &&str| name.eq_ignore_ascii_case(word) || name[..3].eq_ignore_ascii_case(word);
    let at = names.iter().position(is_name)?;
    u32::try_from(at).ok()
}

pub(super) const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
