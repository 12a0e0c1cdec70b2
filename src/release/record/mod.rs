//! What is on record of an app's releases, and the overrides of this host.

pub mod adopt;
pub mod entry;
pub mod inventory;
pub mod log;
pub mod overrides;
pub mod pin;
pub mod quarantine;
pub mod releases;

pub use releases::{ActiveRelease, FailedRemoval, Record, Trial, active, current};
