//! Publishing: read, edit, write if nobody else wrote in between; else once more.

use super::edit::{EditError, Edited, Move, Order, edit};
use crate::ports::store::{Fetched, Put, Store, StoreError, When};
use crate::problem::Problem;

/// How often a write is tried while others keep coming first.
pub const ATTEMPTS: u32 = 10;

/// What became of an order.
#[derive(Debug, Clone)]
pub struct Published {
    /// As an operator would write it: the store and the key.
    pub manifest: String,
    /// Whether something was written; if not, every app was at its sha already.
    pub written: bool,
    pub generation: Option<u64>,
    pub moves: Vec<Move>,
    pub warnings: Vec<Problem>,
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("{0}")]
    Edit(#[from] EditError),
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The store did not say whether it took the new text.
    #[error("{source}; whether the manifest was written is not known")]
    Unsure {
        #[source]
        source: StoreError,
    },
    /// Others wrote between every read and its write.
    #[error("{manifest} was changed by others {attempts} times in a row")]
    Busy { manifest: String, attempts: u32 },
}

/// Carries out an order on the manifest `key`. `pause` waits a little before the next attempt,
/// longer with each; its argument counts them from 1.
pub fn publish(
    store: &dyn Store,
    key: &str,
    order: &Order,
    pause: &mut dyn FnMut(u32),
) -> Result<Published, PublishError> {
    let manifest = format!("{}/{key}", store.address());
    for attempt in 1..=ATTEMPTS {
        let found = match store.get(key, None)? {
            Fetched::Object(object) => Some(object),
            Fetched::Missing | Fetched::Unchanged => None,
        };
        let body = found.as_ref().map(|object| object.body.as_slice());
        let edited = edit(&manifest, body, order)?;
        let done = |written: bool, edited: Edited| Published {
            manifest: manifest.clone(),
            written,
            generation: edited.generation,
            moves: edited.moves,
            warnings: edited.warnings,
        };
        let Some(body) = &edited.body else {
            return Ok(done(false, edited));
        };
        let when = match &found {
            Some(object) => When::Matches(&object.etag),
            None => When::Absent,
        };
        match store.put(key, body, when) {
            Ok(Put::Written(_)) => return Ok(done(true, edited)),
            Ok(Put::Conflict) if attempt < ATTEMPTS => pause(attempt),
            Ok(Put::Conflict) => {}
            Err(source @ StoreError::Unreachable { .. }) => {
                return Err(PublishError::Unsure { source });
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(PublishError::Busy {
        manifest,
        attempts: ATTEMPTS,
    })
}

#[cfg(test)]
mod tests;
