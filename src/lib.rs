//! trueup brings a host to the state described for it.
pub mod ports;
pub mod problem;
pub mod yaml;
