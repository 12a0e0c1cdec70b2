//! The policy bundle of a pass: which one is in force, and how a host takes the one that the manifest names.
//!
//! A pass that is permitted to take a new bundle runs with it at once, on trial. If it converges, the bundle is in force; if
//! it fails, the next pass goes back to the bundle before, and nobody tries this one again. In between, hosts ask each other
//! as they do for an app, under the name `_policy`.

mod attempt;
mod choose;
mod fail;
mod in_force;
mod judge;
mod record;

pub(super) use in_force::{PolicyPass, PolicyUse, with_policy_in_force};
