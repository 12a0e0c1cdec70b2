//! An app's release as its role declares it, and the layout of its folders.

pub(super) mod drain;
pub(super) mod files;
pub(super) mod filters;
pub(super) mod health;
pub(super) mod hooks;
pub(super) mod inputs;
pub(super) mod layout;
pub(super) mod outputs;
mod paths;
pub(super) mod preflight;
pub(super) mod selection;
pub(super) mod spec;
pub(super) mod stage;
pub(super) mod step;
mod validate;
