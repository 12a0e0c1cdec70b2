//! trueup brings a host to the state described for it.
pub mod apply;
pub mod cli;
pub mod desired;
#[cfg(test)]
mod docs_test;
pub mod exit;
pub mod facts;
pub mod kinds;
pub mod owed;
pub mod pass;
pub mod plan;
pub mod ports;
pub mod problem;
pub mod release;
pub mod report;
pub mod resource;
pub mod role;
pub mod settings;
pub mod yaml;
