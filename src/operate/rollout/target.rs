//! The app whose rollouts a command is about.

use crate::fleet::rollout::{RolloutContext, StoreObjects};
use crate::ports::store::Store;
use crate::settings::FleetSettings;

/// The app whose rollouts are asked for.
#[derive(Clone, Copy)]
pub(crate) struct RolloutTarget<'a> {
    pub store: &'a dyn Store,
    pub environment: &'a str,
    pub app: &'a str,
    /// The manifest's key.
    pub manifest_key: &'a str,
    pub fleet: &'a FleetSettings,
}

impl RolloutTarget<'_> {
    pub(super) fn objects(&self) -> StoreObjects<'_> {
        StoreObjects {
            store: self.store,
            context: RolloutContext {
                root: None,
                environment: self.environment,
                store_name: self.store.address(),
                manifest_key: self.manifest_key,
                fleet: self.fleet,
            },
            app: self.app,
            canary: None,
            ignores_hold: false,
        }
    }
}
