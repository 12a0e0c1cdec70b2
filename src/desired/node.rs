//! The node that a manifest is read for.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::settings::Signers;

/// The node that the manifest is read for.
#[derive(Debug, Clone)]
pub(crate) struct NodeContext<'a> {
    pub environment: &'a str,
    pub tags: &'a BTreeMap<String, String>,
    /// By this host's own clock, for want of the store's.
    pub now: Timestamp,
    /// When the store last answered, as the last pass recorded.
    pub last_answer: Option<Timestamp>,
    /// Who may sign the manifest; `None`: unsigned ones are accepted.
    pub signers: Option<&'a Signers>,
}
