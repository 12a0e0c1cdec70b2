//! The causes of an error.

use std::error::Error;
use std::io;

/// An error and its causes, outermost first.
pub(super) fn error_sources<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| next(error))
}

/// `source()` of an `io::Error` skips the error that it wraps.
fn next<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let wrapped = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    match wrapped {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

/// The outermost cause of this type.
pub(super) fn find_source<'a, E: Error + 'static>(
    error: &'a (dyn Error + 'static),
) -> Option<&'a E> {
    error_sources(error).find_map(|cause| cause.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_that_an_io_error_wraps_is_a_source() {
        let number = "x".parse::<u8>().unwrap_err();
        let error = io::Error::other(io::Error::other(number.clone()));
        assert_eq!(find_source(&error), Some(&number));
    }
}
