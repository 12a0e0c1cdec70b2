//! Operators' commands on an app's releases.

pub(super) mod clean;
pub(super) mod diff;
pub(super) mod exec;
pub(super) mod maintenance;
pub(super) mod private;
pub(super) mod rollback;
pub(super) mod selection_error;
