//! The rollouts that the last pass of a session took part in, and the notices that are due since.

use std::cell::Cell;
use std::rc::Rc;

use crate::desired::POLICY_APP;
use crate::fleet::rollout::{AppPosition, FleetHost, HostRollout, ServiceSlot};
use crate::notify::AppMemory;

/// The notices of one app, from a pass until they are sent.
pub(crate) struct AppNotices {
    pub app: String,
    pub memory: AppMemory,
}

/// The rollouts that this host takes part in, and the services for which it takes turns with other hosts.
#[derive(Default)]
pub(crate) struct Rollouts {
    pub apps: Vec<JoinedRollout>,
    pub services: Vec<CoordinatedService>,
    /// `None`: there are no others.
    pub host: Option<Rc<FleetHost>>,
}

/// A service of which one host at a time is restarted or reloaded.
pub(crate) struct CoordinatedService {
    /// The id of its resource.
    pub id: String,
    pub slot: Rc<ServiceSlot>,
}

/// The rollout of one app.
pub(crate) struct JoinedRollout {
    pub rollout: Rc<HostRollout>,
    /// Where the app is, as long as this pass has changed nothing: so a quiet pass looks once.
    pub position: Cell<Option<AppPosition>>,
    /// The rollout is over, and this host owes it nothing: so a quiet pass looks no further.
    pub is_over: Cell<bool>,
}

impl Rollouts {
    /// Those in which this host can ask and answer now.
    pub(super) fn connected(&self) -> impl Iterator<Item = &JoinedRollout> {
        self.apps
            .iter()
            .filter(|joined| !joined.rollout.host.is_cut_off)
    }

    /// Those of them in which this host may write.
    pub(super) fn writable(&self) -> impl Iterator<Item = &JoinedRollout> {
        self.connected().filter(|joined| joined.rollout.may_write())
    }

    /// The slots of services that the roles have no more, and of policy bundles if the host has to have none.
    pub(super) fn abandoned_slots(&self, wants_policy: bool) -> Vec<ServiceSlot> {
        let services = self.services.iter();
        let services = services.map(|service| service.slot.name.as_str());
        let known: Vec<&str> = services.chain(wants_policy.then_some(POLICY_APP)).collect();
        let host = self.host.iter();
        host.flat_map(|host| ServiceSlot::abandoned(host, &known))
            .collect()
    }

    /// The pass is about to change the host.
    pub(super) fn forget_positions(&self) {
        let joined = self.apps.iter();
        joined.for_each(|joined| joined.position.set(None));
    }
}
