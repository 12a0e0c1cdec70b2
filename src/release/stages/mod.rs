//! The stages of a release, one file each, with what runs and records them.

pub mod activate;
pub mod assets;
pub mod attempt;
pub mod build;
pub mod files;
pub mod gate;
pub mod health;
pub mod hooks;
pub mod keep;
pub mod link;
pub mod listener;
pub mod materialise;
pub mod migrate;
pub mod run;
pub mod skip;
pub mod spare;
