//! Lists of what is in a manifest, for messages.

use crate::problem::Problem;

/// Maximum number of names or problems of a manifest in messages: it may have a hundred thousand.
pub(super) const MAX_LISTED: usize = 10;

/// `a, b, c and more`.
pub(super) fn format_names<'a>(mut names: impl Iterator<Item = &'a str>) -> String {
    let some: Vec<String> = names.by_ref().take(MAX_LISTED).map(truncate_name).collect();
    let more = if names.next().is_some() {
        " and more"
    } else {
        ""
    };
    some.join(", ") + more
}

/// An untrusted name, truncated for messages.
fn truncate_name(name: &str) -> String {
    const LONGEST: usize = 80;
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// The warning that there are more bad entries than shown.
pub(super) fn more_entries_warning(name: &str, bad: usize) -> Option<Problem> {
    let more = bad.checked_sub(MAX_LISTED).filter(|more| *more > 0)?;
    Some(Problem::new(format!(
        "{name} has {more} more entries like these"
    )))
}
