//! The simulation of a fleet, for `benches/fleet.rs`.

pub use crate::fleet::rollout::simulation::{Outcome, Scenario, Usage, simulate};
