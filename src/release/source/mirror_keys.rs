//! The names that a mirror has besides those of its server.

/// Prefix of the refs of commits that were fetched by sha; the sha follows.
pub(crate) const BY_SHA_PREFIX: &str = "refs/trueup/";

/// Config key of a mirror into which no ref gets unchecked.
pub(crate) const CHECKED_KEY: &str = "trueup.checked";
