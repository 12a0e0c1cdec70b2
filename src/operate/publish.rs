//! Publishes wanted shas, counted from what the hosts report where the request asks for it.

use std::time::Duration;

use crate::desired::{
    self, PublishError, PublishRequest, PublishSummary, ReportedHost, ReportedHosts,
};
use crate::fleet::{self, RecordCache};
use crate::ports::backoff;
use crate::ports::store::{Store, StoreError};
use crate::problem::Problem;

/// Applies the request to the manifest `key`. With `above_fleet`, the generation exceeds those that hosts report; a
/// warning names the hosts whose record is unreadable. A host whose record is older than `gone_after` does not count.
pub(crate) fn publish(
    store: &dyn Store,
    key: &str,
    mut request: PublishRequest,
    above_fleet: bool,
    gone_after: Duration,
) -> Result<PublishSummary, PublishError> {
    let mut unread = None;
    if above_fleet {
        let (generations, unread_records) = fleet::node_generations(store, gone_after)?;
        request.above_fleet = Some(generations);
        unread = unread_records;
    }
    let mut published = desired::publish(
        store,
        key,
        &request,
        &mut || reported_hosts(store, &request.environment, gone_after),
        &mut backoff::wait_before_retry,
    )?;
    published.warnings.extend(unread.map(|unread| {
        Problem::new(format!(
            "{unread}: the generations of these hosts do not count"
        ))
    }));
    Ok(published)
}

/// The hosts of an environment that are not gone, from their records.
fn reported_hosts(
    store: &dyn Store,
    environment: &str,
    gone_after: Duration,
) -> Result<ReportedHosts, StoreError> {
    let mut cache = RecordCache::empty(store.address(), environment);
    let snapshot = fleet::take_snapshot(store, environment, gone_after, &mut cache)?;
    let live = snapshot.rows.iter();
    let live = live.filter(|row| row.silent_for(snapshot.now) <= gone_after);
    let host = |row: &fleet::NodeRow| ReportedHost {
        tags: row.record.tags.clone(),
        apps: row.record.apps.keys().cloned().collect(),
    };
    Ok(ReportedHosts {
        hosts: live.map(host).collect(),
        is_incomplete: snapshot.unread.is_some() || snapshot.invalid > 0,
    })
}
