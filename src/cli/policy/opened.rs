//! The store of a command that reads policy bundles.

use crate::cli::target::{StoreArgs, StoreTarget};
use crate::desired::{Action, PublishRequest};
use crate::operate::CommandError;
use crate::operate::policy::PolicyTarget;
use crate::operate::publish::PublishTarget;
use crate::pass::{PassError, Paths};
use crate::ports::clock::{Clock, SystemClock};
use crate::ports::store::{self, Store};

/// A store that a command only reads.
pub(super) struct OpenedStore {
    resolved: StoreTarget,
    pub store: Box<dyn Store>,
}

impl OpenedStore {
    pub(super) fn open(
        args: &StoreArgs,
        paths: &Paths,
        command: &str,
    ) -> Result<OpenedStore, CommandError> {
        let resolved = StoreTarget::resolve(args, paths, command)?;
        let store = store::open(&resolved.store).map_err(PassError::Store)?;
        Ok(OpenedStore { resolved, store })
    }

    pub(super) fn with<T>(
        &self,
        environment: &str,
        act: impl FnOnce(&PolicyTarget<'_>) -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        let (resolved, store) = (&self.resolved, self.store.as_ref());
        let publisher = PublishTarget {
            store,
            manifest_key: &resolved.manifest,
            gone_after: resolved.fleet.gone_after(),
            signing: None,
        };
        act(&PolicyTarget {
            store,
            environment,
            manifest_key: &resolved.manifest,
            fleet: &resolved.fleet,
            signers: resolved.signers.as_ref(),
            publisher: &publisher,
            request: PublishRequest {
                action: Action::Policy,
                ..PublishRequest::new(environment, SystemClock.now())
            },
        })
    }
}
