//! The words of a command line as bash has them.

use std::ffi::OsString;

/// bash also breaks words at `=`: `--env=prod` is three. Joins them again around the completed word. Returns the words, the
/// new index, and what of the completed word bash keeps as it is.
pub(super) fn join_broken(words: &[OsString], index: usize) -> (Vec<OsString>, usize, String) {
    let mut joined: Vec<OsString> = Vec::new();
    let (mut new_index, mut prefix) = (index, String::new());
    let mut goes_on = false;
    for (number, word) in words.iter().enumerate() {
        let is_equals = word == "=";
        if (is_equals || goes_on) && !joined.is_empty() {
            let last = joined.len() - 1;
            if number == index {
                new_index = last;
                prefix = joined[last].to_string_lossy().into_owned();
                // At the sign itself, what follows it is completed.
                if is_equals {
                    prefix.push('=');
                }
            }
            joined[last].push(word);
        } else {
            if number == index {
                new_index = joined.len();
            }
            joined.push(word.clone());
        }
        goes_on = is_equals;
    }
    if index >= words.len() {
        new_index = joined.len();
    }
    (joined, new_index, prefix)
}
