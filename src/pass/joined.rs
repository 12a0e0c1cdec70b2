//! The rollouts that the last pass of a session took part in.

use std::rc::Rc;

use crate::fleet::rollout::HostRollout;

/// The rollouts that this host takes part in.
#[derive(Default)]
pub(crate) struct Rollouts(pub Vec<Rc<HostRollout>>);
