//! Values that the machine may not provide.

use std::error::Error;

use crate::ports::machine::MachineError;

/// The value if the machine provides it: a fact that is unknown is empty and fails no pass.
pub(super) fn known<T>(value: Result<T, MachineError>) -> Option<T> {
    value
        .inspect_err(|error| {
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            tracing::debug!("{error}: {cause}");
        })
        .ok()
}
