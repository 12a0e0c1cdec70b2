//! This host among the others of its environment: who it is, and where they meet.

use std::rc::Rc;

use super::identity::Member;
use super::objects::{RolloutContext, StoreObjects};
use crate::desired::Canary;
use crate::ports::clock::Clock;
use crate::ports::root::Root;
use crate::ports::store::Store;
use crate::settings::{FleetSettings, Signers};

/// This host, and the store that it shares with the others.
pub(crate) struct FleetHost {
    pub root: Rc<Root>,
    pub clock: Rc<dyn Clock>,
    pub store: Rc<dyn Store>,
    pub store_name: String,
    pub manifest_key: String,
    pub fleet: FleetSettings,
    /// Who may sign the manifest; `None`: unsigned ones are accepted.
    pub signers: Option<Signers>,
    pub environment: String,
    pub member: Member,
    /// The store does not answer in this pass: another request would only cost another timeout.
    pub is_cut_off: bool,
}

impl FleetHost {
    /// The objects of one app, or of one service.
    pub(super) fn objects<'a>(
        &'a self,
        app: &'a str,
        canary: Option<&'a Canary>,
        ignores_hold: bool,
    ) -> StoreObjects<'a> {
        StoreObjects {
            store: &*self.store,
            context: RolloutContext {
                root: Some(&self.root),
                environment: &self.environment,
                store_name: &self.store_name,
                manifest_key: &self.manifest_key,
                fleet: &self.fleet,
                signers: self.signers.as_ref(),
            },
            app,
            canary,
            ignores_hold,
            observer: None,
        }
    }
}
