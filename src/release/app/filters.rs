//! The policy for files of a repository that need a filter.

use serde::Deserialize;

/// What to do about files that need a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum FilterPolicy {
    /// A commit with such a file is refused.
    Refuse,
    /// They are deployed as they are in the repository.
    Ignore,
}
