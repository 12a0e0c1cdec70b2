//! Publishes wanted shas, counted from what the hosts report where the request asks for it.

use std::time::Duration;

use crate::desired::{
    self, FleetReports, PublishError, PublishRequest, PublishSummary, ReportedHost, ReportedHosts,
};
use crate::fleet::rollout::register_key;
use crate::fleet::{self, RecordCache};
use crate::ports::backoff;
use crate::ports::store::{GetOutcome, Store, StoreError};
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
        &mut StoreReports {
            store,
            environment: &request.environment,
            gone_after,
        },
        &mut backoff::wait_before_retry,
    )?;
    published.warnings.extend(unread.map(|unread| {
        Problem::new(format!(
            "{unread}: the generations of these hosts do not count"
        ))
    }));
    Ok(published)
}

/// What the store holds of the fleet.
struct StoreReports<'a> {
    store: &'a dyn Store,
    environment: &'a str,
    gone_after: Duration,
}

impl FleetReports for StoreReports<'_> {
    fn hosts(&mut self) -> Result<ReportedHosts, StoreError> {
        reported_hosts(self.store, self.environment, self.gone_after)
    }

    fn has_rollouts(&mut self, app: &str) -> Result<bool, StoreError> {
        // Hosts on one machine ask nobody.
        if self.store.address().starts_with("dir:") {
            return Ok(true);
        }
        let key = register_key(self.environment, app);
        Ok(self.store.get(&key, None)? != GetOutcome::Missing)
    }
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
        node: row.node.clone(),
        tags: row.record.tags.clone(),
        may_take_part: row.record.rollouts,
        apps: row.record.apps.keys().cloned().collect(),
    };
    Ok(ReportedHosts {
        hosts: live.map(host).collect(),
        is_incomplete: snapshot.unread.is_some() || snapshot.invalid > 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::{HoldRequest, Sha};
    use crate::ports::store::{MemoryStore, WriteCondition};

    const KEY: &str = "sha_number.yml";

    /// A store with the manifest of `shop`, whose canary is in zone `a`, and a host that runs it in this zone.
    fn store_with_host(zone: &str) -> MemoryStore {
        let store = MemoryStore::new();
        let put = |key: &str, body: &str| {
            store
                .put(key, body.as_bytes(), WriteCondition::Always)
                .unwrap();
        };
        let sha = "a".repeat(40);
        put(
            KEY,
            &format!(
                "production:\n  shop:\n    sha: {sha}\n    rollout: {{canary: {{match: {{zone: a}}}}}}\n"
            ),
        );
        put(
            "nodes/production/web1.json",
            &format!(
                r#"{{"version": 1, "node": "web1", "environment": "production", "rollouts": true, "tags": {{"zone": "{zone}"}},
                "apps": {{"shop": {{"wanted": null, "actual": null, "state": "absent"}}}},
                "last_pass": {{"at": "2026-11-21T03:00:12Z", "outcome": "converged"}}}}"#
            ),
        );
        // Of another environment: it does not count.
        put(
            "nodes/staging/web1.json",
            r#"{"version": 1, "node": "web1", "environment": "staging", "tags": {"zone": "a"},
            "apps": {"shop": {"wanted": null, "actual": null, "state": "absent"}},
            "last_pass": {"at": "2026-11-21T03:00:12Z", "outcome": "converged"}}"#,
        );
        store
    }

    fn publish_shop(store: &dyn Store) -> Result<PublishSummary, String> {
        let request = PublishRequest {
            environment: "production".into(),
            shas: vec![("shop".into(), Sha::parse(&"b".repeat(40)).unwrap())],
            reference: None,
            by: None,
            at: "2026-11-21T04:43:01Z".parse().unwrap(),
            now: "2026-11-21T04:43:01Z".parse().unwrap(),
            hold: HoldRequest::Keep,
            create: false,
            restart: None,
            above_fleet: None,
        };
        let hour = Duration::from_secs(3600);
        publish(store, KEY, request, false, hour).map_err(|error| error.to_string())
    }

    #[test]
    fn canary_is_compared_with_the_records_of_its_environment() {
        let published = publish_shop(&store_with_host("a")).unwrap();
        assert!(published.written && published.warnings.is_empty());
        let error = publish_shop(&store_with_host("b")).unwrap_err();
        assert!(
            error.contains("no host that runs shop has the tags zone=a"),
            "{error}"
        );
        assert!(error.ends_with("hint: their `zone` is b"), "{error}");
        // A record that cannot be read may be of the canary.
        let store = store_with_host("b");
        store
            .put("nodes/production/web2.json", b"{", WriteCondition::Always)
            .unwrap();
        let published = publish_shop(&store).unwrap();
        assert!(published.written);
        assert_eq!(published.warnings.len(), 1, "{:?}", published.warnings);
    }
}
