//! Publishes wanted shas, counted from what the hosts report where the request asks for it.

use std::time::Duration;

use crate::desired::{self, PublishError, PublishRequest, PublishSummary};
use crate::fleet;
use crate::ports::backoff;
use crate::ports::store::Store;
use crate::problem::Problem;

/// Applies the request to the manifest `key`. With `above_fleet`, the generation exceeds those that hosts report
/// whose record is younger than that duration; a warning names the hosts whose record is unreadable.
pub(crate) fn publish(
    store: &dyn Store,
    key: &str,
    mut request: PublishRequest,
    above_fleet: Option<Duration>,
) -> Result<PublishSummary, PublishError> {
    let mut unread = None;
    if let Some(gone_after) = above_fleet {
        let (generations, unread_records) = fleet::node_generations(store, gone_after)?;
        request.above_fleet = Some(generations);
        unread = unread_records;
    }
    let mut published = desired::publish(store, key, &request, &mut backoff::wait_before_retry)?;
    published.warnings.extend(unread.map(|unread| {
        Problem::new(format!(
            "{unread}: the generations of these hosts do not count"
        ))
    }));
    Ok(published)
}
