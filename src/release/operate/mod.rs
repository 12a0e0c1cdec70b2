//! Operators' commands on an app's releases.

pub mod clean;
pub mod diff;
pub mod exec;
pub mod private;
pub mod rollback;
