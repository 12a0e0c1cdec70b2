//! What the manifest says about the way of a sha through the hosts of an environment: the policy, and the order
//! of the apps.

mod amount;
mod order;
mod policy;
mod spec;
#[cfg(test)]
mod tests;

pub(crate) use amount::Amount;
pub(super) use order::apps_in_circles;
pub(crate) use policy::{Canary, CanaryHosts, OnFailure, RolloutMode, RolloutPolicy};
pub(crate) use spec::RolloutSpec;
