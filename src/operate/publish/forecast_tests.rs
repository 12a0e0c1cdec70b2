use std::time::Duration;

use super::{Forecast, forecast};
use crate::desired::{FleetReports, PublishRequest, Sha};
use crate::ports::store::{MemoryStore, Store, WriteCondition};

const HOUR: Duration = Duration::from_secs(3600);

fn put(store: &MemoryStore, key: &str, body: &str) {
    let body = body.as_bytes();
    store.put(key, body, WriteCondition::Always).unwrap();
}

/// A host with this tag, whose release is pinned or not.
fn report(store: &MemoryStore, node: &str, zone: &str, pinned: bool) {
    let record = format!(
        r#"{{"version": 1, "node": "{node}", "environment": "production", "rollouts": true, "tags": {{"zone": "{zone}"}},
        "apps": {{"shop": {{"wanted": null, "actual": null, "state": "absent", "pinned": {pinned}}}}},
        "last_pass": {{"at": "2026-11-21T03:00:12Z", "outcome": "converged"}}}}"#
    );
    put(store, &format!("nodes/production/{node}.json"), &record);
}

/// What a fleet that nobody asks would answer.
struct Silent;

impl FleetReports for Silent {
    fn hosts(&mut self) -> Result<crate::desired::ReportedHosts, crate::ports::store::StoreError> {
        Ok(crate::desired::ReportedHosts::default())
    }

    fn has_rollouts(&mut self, _: &str) -> Result<bool, crate::ports::store::StoreError> {
        Ok(true)
    }

    fn was_served(&mut self, _: &str, _: &Sha) -> Result<crate::desired::ServedBefore, String> {
        Ok(crate::desired::ServedBefore::Yes)
    }
}

/// The forecast of `shop` with these fields of its entry.
fn forecast_of(store: &MemoryStore, fields: &str) -> Forecast {
    let sha = "a".repeat(40);
    let text =
        format!("generation: 1\nproduction:\n  blog: {sha}\n  shop: {{sha: {sha}{fields}}}\n");
    put(store, "m.yml", &text);
    let request = PublishRequest {
        shas: vec![("shop".into(), Sha::parse(&"b".repeat(40)).unwrap())],
        dry_run: true,
        ..PublishRequest::new("production", "2026-11-21T04:43:01Z".parse().unwrap())
    };
    let summary =
        crate::desired::publish(store, "m.yml", &request, None, &mut Silent, &mut |_| true)
            .unwrap();
    let apps = ["shop".to_owned()];
    let mut all = forecast(store, "production", &summary, &apps, HOUR);
    all.remove(0)
}

#[test]
fn policy_and_reports_say_what_hosts_will_do() {
    let store = MemoryStore::new();
    for node in ["web1", "web2", "web3"] {
        report(&store, node, "a", false);
    }
    report(&store, "web4", "a", true);
    report(&store, "web5", "b", false);
    let over = format!(
        ", overrides: [{{match: {{zone: b}}, sha: {}}}]",
        "c".repeat(40)
    );
    let plain = forecast_of(&store, &over);
    assert_eq!(
        plain.describe(),
        [
            "3 hosts take it: 25% at a time",
            "a host that fails stops it",
            "web4: pinned to another release, and stays there",
            "web5: at another sha by an override",
        ]
    );
    let policy = ", rollout: {max_unavailable: 2, per: zone, canary: {hosts: 1, bake: 5m}, max_failures: 3, on_failure: rollback, after: [blog]}";
    assert_eq!(
        forecast_of(&store, policy).describe()[..3],
        [
            "4 hosts take it: 1 host, healthy for 5 min first, then 2 at a time, of one zone at a time",
            "once blog is done",
            "3 hosts that fail take all back",
        ]
    );
    let independent = forecast_of(&store, ", rollout: none");
    assert_eq!(independent.policy, None);
    assert_eq!(
        independent.describe()[0],
        "4 hosts take it, each for itself"
    );
}

#[test]
fn gone_hosts_are_named_and_unreadable_ones_are_unknown() {
    let store = MemoryStore::new();
    store.set_server_time("2026-11-21T03:00:00Z".parse().unwrap());
    report(&store, "web1", "a", false);
    store.set_server_time("2026-11-21T04:43:00Z".parse().unwrap());
    report(&store, "web2", "a", false);
    let lines = forecast_of(&store, "").describe();
    assert_eq!(lines[0], "1 host takes it");
    assert_eq!(lines[2], "web1: not heard of, and not waited for");
    let nobody = forecast_of(&MemoryStore::new(), "");
    assert_eq!(
        nobody.describe()[0],
        "no host that runs it is on record yet: 25% at a time"
    );
    let unknown = Forecast {
        hosts: None,
        ..nobody
    };
    assert_eq!(unknown.describe()[0], "its hosts take it: 25% at a time");
}
