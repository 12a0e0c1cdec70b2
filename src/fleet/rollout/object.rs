//! What all objects of a rollout in the store have in common: version, bounds, fields of newer versions.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::fleet::sanitize_line;
use crate::ports::store::StoreError;

/// Format version of every object.
pub(crate) const VERSION: u32 = 1;

/// Maximum size of a register, in bytes.
pub(crate) const MAX_REGISTER: usize = 64 << 10;

/// Maximum size of any other object, in bytes.
pub(crate) const MAX_OBJECT: usize = 16 << 10;

/// Fields that a newer trueup added: kept when this one writes the object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct UnknownFields(serde_json::Map<String, serde_json::Value>);

/// Why a host can take no part in a rollout now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RolloutError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An object cannot be used: nobody goes on before an operator has seen to it.
    #[error("{key} cannot be used: {why}")]
    Object { key: String, why: String },
    /// Others wrote to the object between every read and write.
    #[error("others changed {key} {attempts} times in a row")]
    Busy { key: String, attempts: u32 },
    /// What this host has to remember cannot be read or written.
    #[error("{0}")]
    JournalStore(String),
}

impl RolloutError {
    /// The operator's next step, where one is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            RolloutError::Store(error) => error.hint(),
            RolloutError::Object { .. } => Some(
                "look at the object with an S3 client; `trueup rollout reset ENV APP --reason TEXT` starts afresh"
                    .into(),
            ),
            RolloutError::Busy { .. } | RolloutError::JournalStore(_) => None,
        }
    }
}

/// Parses an object. `limit`: its maximum size in bytes.
pub(super) fn parse<T: DeserializeOwned>(
    key: &str,
    limit: usize,
    body: &[u8],
) -> Result<T, RolloutError> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    let refuse = |why: String| RolloutError::Object {
        key: key.to_owned(),
        why,
    };
    if body.len() > limit {
        let size = body.len();
        return Err(refuse(format!(
            "it has {size} bytes; at most {limit} are allowed"
        )));
    }
    let invalid =
        |error: serde_json::Error| refuse(sanitize_line(&format!("it is damaged: {error}")));
    let head: Head = serde_json::from_slice(body).map_err(invalid)?;
    if head.version != VERSION {
        return Err(refuse(format!(
            "it has version {}, and this trueup reads version {VERSION}",
            head.version
        )));
    }
    serde_json::from_slice(body).map_err(invalid)
}

/// The bytes of an object.
pub(super) fn encode(object: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(object).expect("plain data is always JSON")
}
