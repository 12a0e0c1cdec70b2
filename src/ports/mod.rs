//! The only modules that touch the operating system.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod clock;
pub mod root;
pub mod runtime;
// pub mod store;
