//! The stages of a release, one file each, with what runs and records them.

pub(super) mod activate;
pub(crate) mod active_links;
pub(super) mod assets;
pub(super) mod attempt;
pub(super) mod build;
pub(super) mod copy;
pub(super) mod description;
pub(crate) mod files;
pub(super) mod gate;
pub(super) mod health;
pub(super) mod hooks;
pub(super) mod keep;
pub(super) mod link;
pub(super) mod listener;
pub(super) mod materialise;
pub(super) mod migrate;
pub(super) mod outputs;
pub(super) mod parents;
pub(super) mod poll;
pub(super) mod preflight;
pub(super) mod resume;
pub(super) mod rollback;
pub(super) mod run;
pub(super) mod skip;
pub(super) mod spare;
pub(super) mod unchanged;
