//! An app's release as its role declares it, and the layout of its folders.

pub mod allowed_refs;
pub mod files;
pub mod filters;
pub mod health;
pub mod hooks;
pub mod inputs;
pub mod layout;
pub mod repo;
pub mod spec;
pub mod stage;
pub mod step;
