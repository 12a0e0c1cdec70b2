//! A publisher for tests.

use std::time::Duration;

use super::{Publish, PublishTarget};
use crate::desired::{PublishRequest, PublishSummary};
use crate::operate::CommandError;
use crate::ports::store::Store;

/// Publishes without a signature, and asks nobody.
pub(crate) struct Unsigned<'a> {
    pub store: &'a dyn Store,
    /// That of the manifest.
    pub key: &'a str,
}

impl Publish for Unsigned<'_> {
    fn publish(&self, request: PublishRequest) -> Result<PublishSummary, CommandError> {
        let target = PublishTarget {
            store: self.store,
            manifest_key: self.key,
            gone_after: Duration::from_secs(3600),
            signing: None,
        };
        target.publish(request)
    }
}
