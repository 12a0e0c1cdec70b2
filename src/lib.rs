//! trueup brings a host to the state described for it.
pub mod desired;
pub mod kinds;
pub mod ports;
pub mod problem;
pub mod resource;
pub mod yaml;
