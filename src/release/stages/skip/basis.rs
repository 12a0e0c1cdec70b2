//! Why a task is skipped.

use crate::desired::Sha;
use crate::release::record::ReleaseRecord;
use crate::release::record::entry::ReleaseEntry;

/// The release whose run makes another one unnecessary, because the inputs are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SkipBasis {
    pub name: String,
    pub sha: Sha,
}

impl SkipBasis {
    pub(crate) fn of(entry: &ReleaseEntry) -> SkipBasis {
        SkipBasis {
            name: entry.name.clone(),
            sha: entry.sha.clone(),
        }
    }

    /// [`SkipBasis::describe`] of a release that may be missing on record.
    pub(crate) fn describe_release(record: &ReleaseRecord, name: &str) -> String {
        match record.find(name) {
            Some(entry) => SkipBasis::of(entry).describe(),
            None => format!("inputs equal to those of {name}"),
        }
    }

    /// For messages.
    pub(crate) fn describe(&self) -> String {
        format!("inputs equal to {}", self.sha.short())
    }
}
