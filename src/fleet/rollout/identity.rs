//! Who takes part in a rollout, in what, and which write is whose.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::desired::Sha;

/// The name of one write. No two writes have the same bytes, and so the same ETag: otherwise a write that arrives late
/// could undo that of somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Nonce(pub u64);

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for Nonce {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Nonce {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Nonce, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = digits
            .then(|| u64::from_str_radix(&text, 16).ok())
            .flatten();
        number
            .map(Nonce)
            .ok_or_else(|| serde::de::Error::custom("expected 16 hexadecimal digits"))
    }
}

/// One wanted sha of an app. The same sha that is published again later is another entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct EntryId {
    pub sha: Sha,
    /// The generation of the manifest with which its rollout was opened; 0 for a manifest without one.
    pub generation: u64,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (generation {})", self.sha.short(), self.generation)
    }
}

/// A host. Its name alone does not identify it: a machine that replaced another has the same name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Member {
    pub node: String,
    /// Derived from `/etc/machine-id`.
    pub machine: String,
}
