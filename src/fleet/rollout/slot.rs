//! A slot: permission to take one serving host out of service. An object that is held or free, and never deleted, so
//! that no write to it has to be an unconditional one.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::identity::{EntryId, Member, Nonce};
use super::object::UnknownFields;

/// One slot in the store. A slot that has no object yet is free.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Slot {
    pub version: u32,
    pub nonce: Nonce,
    /// `None`: it is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<SlotHolder>,
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// Who holds a slot, and what for. The nonce of the slot proves it, the name does not.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct SlotHolder {
    #[serde(flatten)]
    pub member: Member,
    /// `None`: restarts of the app's services that belong to no rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<EntryId>,
    /// By the holder's own clock, for people.
    pub since: Timestamp,
    /// Its value of the tag of `per`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

impl Slot {
    pub(super) fn held(nonce: Nonce, holder: SlotHolder) -> Slot {
        Slot {
            version: super::object::VERSION,
            nonce,
            holder: Some(holder),
            unknown: UnknownFields::default(),
        }
    }

    pub(super) fn free(nonce: Nonce) -> Slot {
        Slot {
            version: super::object::VERSION,
            nonce,
            holder: None,
            unknown: UnknownFields::default(),
        }
    }
}
