//! What is on record of an app's releases, and the overrides of this host.

pub(super) mod active;
pub(super) mod adopt;
mod app_files;
pub(super) mod disk;
pub(super) mod drain;
pub(super) mod entry;
pub(super) mod failed_stage;
pub(super) mod inventory;
pub(super) mod log;
pub(super) mod maintenance;
pub(super) mod overrides;
pub(super) mod pin;
pub(super) mod quarantine;
pub(super) mod releases;
pub(super) mod running;
pub(super) mod trial;

pub(crate) use active::{ActiveRelease, active};
pub(super) use disk::current;
pub(crate) use releases::{FailedRemoval, ReleaseRecord, recorded_names};
pub(crate) use trial::{RecordedBake, RecordedTrial};
