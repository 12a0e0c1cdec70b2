//! The quarantine of a sha in an environment: no host activates it any more. The object is the truth about the sha;
//! entries of the register only mirror it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::identity::Nonce;
use super::mutation::{Mutation, is_active};
use super::object::{UnknownFields, VERSION};

/// What is known against a sha. A lifted one stays, because of its epoch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Quarantine {
    pub version: u32,
    pub nonce: Nonce,
    /// How often it was lifted. Failures of an earlier epoch do not count.
    pub epoch: u32,
    pub in_force: bool,
    /// The host that found it, or the operator.
    pub by: String,
    /// By that one's clock, for people.
    pub at: Timestamp,
    /// One line.
    pub reason: String,
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

impl Quarantine {
    /// The quarantine after `by` found the sha bad. `before`: as it was, which has to be of the same epoch.
    pub(super) fn imposed(
        before: Option<&Quarantine>,
        (nonce, by, at, reason): (Nonce, String, Timestamp, String),
    ) -> Quarantine {
        Quarantine {
            version: VERSION,
            nonce,
            epoch: before.map_or(0, |before| before.epoch),
            in_force: true,
            by,
            at,
            reason,
            unknown: before.map_or_else(UnknownFields::default, |before| before.unknown.clone()),
        }
    }

    /// The quarantine after an operator lifted it. Without one, its epoch lets hosts try again on which the sha failed.
    pub(super) fn lifted(
        before: Option<&Quarantine>,
        about: (Nonce, String, Timestamp, String),
    ) -> Quarantine {
        let lifted = Quarantine::imposed(before, about);
        let raise = u32::from(!is_active(Mutation::LiftWithoutEpoch));
        Quarantine {
            epoch: lifted.epoch.saturating_add(raise),
            in_force: false,
            ..lifted
        }
    }
}
