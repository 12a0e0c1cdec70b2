//! The names of AWS's regions.

/// Maximum length of a name; AWS's longest has 16 letters.
const MAX_LENGTH: usize = 40;

/// Refuses what cannot be a region: it becomes a part of the host name to which requests go.
pub(crate) fn check_region(region: &str) -> Result<(), String> {
    let is_usual = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match (1..=MAX_LENGTH).contains(&region.len()) && region.chars().all(is_usual) {
        true => Ok(()),
        false => Err(format!(
            "`{region}` is not a region of AWS: expected such as `eu-west-1`"
        )),
    }
}
