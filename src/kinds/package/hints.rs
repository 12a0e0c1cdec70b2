//! What to do about a failure, as the output of a package manager shows it.

use crate::resource::Failure;

/// With the hint whose sign is in the output of the package manager.
pub(super) fn hint_for_output(failure: Failure, output: &str, hints: &[(&str, &str)]) -> Failure {
    let mut hints = hints.iter();
    match hints.find(|(sign, _)| output.contains(sign)) {
        Some((_, hint)) => failure.hint(*hint),
        None => failure,
    }
}
