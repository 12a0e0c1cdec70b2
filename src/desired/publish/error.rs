//! Why a request to publish was not carried out.

use crate::desired::edit::EditError;
use crate::ports::store::StoreError;

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store did not confirm whether it accepted the new text.
    #[error("{0}; it is unknown whether the manifest was written")]
    Unconfirmed(StoreError),
    /// Others wrote between every read and its write, until the backoff gave up.
    #[error("others changed {manifest} {attempts} times in a row")]
    Busy { manifest: String, attempts: u32 },
}
