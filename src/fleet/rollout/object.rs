//! What all objects of a rollout in the store have in common: version, bounds, fields of newer versions.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::fleet::sanitize_line;
use crate::ports::store::StoreError;
use crate::printable;

/// Format version of every object.
pub(crate) const VERSION: u32 = 1;

/// Maximum size of a register, in bytes.
pub(crate) const MAX_REGISTER: usize = 64 << 10;

/// Maximum size of any other object, in bytes.
pub(crate) const MAX_OBJECT: usize = 16 << 10;

/// Maximum number of slots: a quarter of the largest fleet. Whoever shows or asks them reads each.
pub(crate) const MAX_SLOTS: u32 = 7_500;

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
    /// A newer trueup wrote the object.
    #[error(
        "{key} cannot be used: it has version {found}, and this trueup reads version {VERSION}"
    )]
    Newer { key: String, found: u32 },
    /// The manifest says nothing that a host may act on.
    #[error("{key}: {why}")]
    Manifest { key: String, why: String },
    /// The store ignores conditional writes: two hosts would take one slot.
    #[error("{store} ignores conditional writes, so no host can take a slot for itself alone")]
    Unconditional { store: String },
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
                "no trueup wrote that: find out who did; `trueup rollout reset ENV APP --reason TEXT` begins a register again, \
                 any other object is restored or removed with an S3 client"
                    .into(),
            ),
            RolloutError::Newer { .. } => Some("upgrade trueup here".into()),
            RolloutError::Manifest { .. } => {
                Some("`trueup publish ENV APP=SHA` sets what is wanted".into())
            }
            RolloutError::Unconditional { .. } => Some(
                "use a store that honours them (AWS S3, Ceph), or let each host go for itself: `rollout: none` in the manifest"
                    .into(),
            ),
            RolloutError::JournalStore(_) => Some(
                "if that file is corrupt, remove it, and free the slot that this host may hold: `trueup rollout break-slot ENV APP N --reason TEXT --yes`"
                    .into(),
            ),
            RolloutError::Busy { .. } => None,
        }
    }
}

/// Parses an object. `limit`: its maximum size in bytes. Escapes all texts: who may write in the store must not control
/// the terminal of an operator.
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
        return Err(RolloutError::Newer {
            key: key.to_owned(),
            found: head.version,
        });
    }
    let mut contents: serde_json::Value = serde_json::from_slice(body).map_err(invalid)?;
    escape(&mut contents, "");
    serde_json::from_value(contents).map_err(invalid)
}

/// Escapes the texts of a value, which is in a field of this name.
fn escape(value: &mut serde_json::Value, field: &str) {
    use serde_json::Value;
    match value {
        // The one text of several lines.
        Value::String(text) if field == "log_tail" => *text = printable::text(text).into_owned(),
        Value::String(text) => *text = printable::line(text).into_owned(),
        Value::Array(items) => items.iter_mut().for_each(|item| escape(item, field)),
        Value::Object(fields) => fields
            .iter_mut()
            .for_each(|(name, item)| escape(item, name)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The bytes of an object.
pub(super) fn encode(object: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(object).expect("plain data is always JSON")
}
