//! The only modules that touch the operating system.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod accounts;
pub mod clock;
pub mod exec;
pub mod root;
pub mod runtime;
// pub mod store;
