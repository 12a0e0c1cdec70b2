//! The result of a publish request.

use crate::desired::Manifest;
use crate::desired::edit::ShaChange;
use crate::problem::Problem;

/// The result of a publish request.
#[derive(Debug, Clone)]
pub(crate) struct PublishSummary {
    /// As an operator writes it: the store and the key.
    pub manifest: String,
    /// Whether a manifest was written; if not, every app was at its sha already.
    pub written: bool,
    pub generation: Option<u64>,
    pub changes: Vec<ShaChange>,
    pub warnings: Vec<Problem>,
    /// The text before, and what was written, or would be without [`super::PublishRequest::dry_run`]. `None`: it stays as it is.
    pub texts: Option<ManifestTexts>,
    /// What the manifest says then.
    pub desired: Manifest,
}

/// A manifest before and after a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ManifestTexts {
    /// Empty if there was none.
    pub before: String,
    pub after: String,
}
