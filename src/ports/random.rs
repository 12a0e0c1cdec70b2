//! Unpredictable numbers: for names that another user must not guess, and for jitter.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A random number. The standard library seeds its hash maps from the system's randomness.
pub(crate) fn random_u64() -> u64 {
    RandomState::new().build_hasher().finish()
}
