//! Snapshots of all records, and the fleet as operators see it.

use super::*;

#[test]
fn only_changed_records_are_read() {
    let store = MemoryStore::new();
    let mut cache = RecordCache::empty("s", ENV);
    for last in 1..=5 {
        put(&store, &record(&format!("web{last}"), last));
    }
    assert_eq!(snapshot_of(&store, &mut cache).reads, 5);
    assert_eq!(snapshot_of(&store, &mut cache).reads, 0);
    // A heartbeat: the same content.
    put(&store, &record("web3", 3));
    assert_eq!(snapshot_of(&store, &mut cache).reads, 0);
    let mut moved = record("web3", 3);
    moved.addresses = vec!["10.0.0.33".parse().unwrap()];
    put(&store, &moved);
    let snapshot = snapshot_of(&store, &mut cache);
    assert_eq!(snapshot.reads, 1);
    assert_eq!(snapshot.rows[2].record.addresses, moved.addresses);
    store.delete(&record_key(ENV, "web3")).unwrap();
    assert_eq!(
        names(&snapshot_of(&store, &mut cache)),
        ["web1", "web2", "web4", "web5"]
    );
}

#[test]
fn invalid_record_is_reported_and_the_last_good_one_kept() {
    let store = MemoryStore::new();
    let mut cache = RecordCache::empty("s", ENV);
    put(&store, &record("web1", 1));
    put(&store, &record("web2", 2));
    snapshot_of(&store, &mut cache);
    let put_raw = |name: &str, body: &[u8]| {
        let at = format!("nodes/{ENV}/{name}");
        store.put(&at, body, WriteCondition::Always).unwrap();
    };
    put_raw("web2.json", b"{");
    put_raw("web3.json", b"not a record");
    put_raw("web4.json", &vec![b'x'; 3 << 20]);
    put_raw("README", b"hello");
    put_raw("a b.json", b"{}");
    put_raw("deep/er.json", b"{}");
    let snapshot = snapshot_of(&store, &mut cache);
    assert_eq!(names(&snapshot), ["web1", "web2"]);
    assert_eq!(snapshot.reads, 2, "what is too large is not even read");
    assert_eq!(snapshot.problems.len(), 6, "{:#?}", snapshot.problems);
    assert!(
        snapshot
            .problems
            .iter()
            .any(|line| line.contains("web2.json") && line.contains("last good"))
    );
    assert_eq!(
        snapshot_of(&store, &mut cache).reads,
        0,
        "and not read again and again"
    );
    assert_eq!(snapshot_of(&store, &mut cache).problems.len(), 6);
    put(&store, &record("web2", 2));
    assert!(
        !snapshot_of(&store, &mut cache)
            .problems
            .iter()
            .any(|line| line.contains("web2"))
    );
}

#[test]
fn fleet_with_an_invalid_record_is_not_converged() {
    let store = MemoryStore::new();
    put(&store, &record("web1", 1));
    let mut bad = record("web2", 2);
    bad.version = 2;
    let outcome = |store: &MemoryStore| {
        let snapshot = snapshot_of(store, &mut RecordCache::empty("s", ENV));
        let mut view = fleet_view(ENV, snapshot, None, HOUR, HOUR);
        view.retain_app("shop");
        view.outcome
    };
    assert_eq!(outcome(&store), Exit::Converged);
    put(&store, &bad);
    assert_eq!(outcome(&store), Exit::Stale);
}

#[test]
fn copied_machine_is_reported() {
    let store = MemoryStore::new();
    put(&store, &record("web1", 1));
    put(&store, &record("web2", 1));
    let snapshot = snapshot_of(&store, &mut RecordCache::empty("s", ENV));
    assert_eq!(snapshot.problems.len(), 1);
    assert!(
        snapshot.problems[0].contains("web1 and web2 have the same machine id"),
        "{:?}",
        snapshot.problems
    );
}

fn app(wanted: char, actual: char, state: ServingState, why: Option<&str>) -> AppRecord {
    AppRecord {
        wanted: Some(sha(wanted)),
        actual: Some(sha(actual)),
        state,
        served: false,
        pinned: false,
        outcome: None,
        since: None,
        why: why.map(str::to_owned),
    }
}

/// Nodes, each with one app.
fn mixed_apps() -> Vec<(&'static str, &'static str, AppRecord)> {
    vec![
        ("fine", "shop", app('a', 'a', ServingState::Serving, None)),
        (
            "failed",
            "shop",
            app(
                'a',
                'c',
                ServingState::Serving,
                Some("shop/code: the build failed"),
            ),
        ),
        ("late", "shop", app('c', 'c', ServingState::Serving, None)),
        ("bad", "shop", app('a', 'a', ServingState::Bad, None)),
        ("held", "held", app('c', 'a', ServingState::Serving, None)),
        ("torn", "torn", app('a', 'a', ServingState::Serving, None)),
        ("extra", "other", app('a', 'a', ServingState::Serving, None)),
        (
            "masked",
            "shop",
            AppRecord {
                outcome: Some(Exit::Waiting),
                ..app('a', 'a', ServingState::Serving, Some("puma is masked"))
            },
        ),
        // It waited for an app for which the manifest now wants something else.
        (
            "was-held",
            "shop",
            AppRecord {
                outcome: Some(Exit::Waiting),
                ..app('c', 'a', ServingState::Serving, Some("held by bo"))
            },
        ),
        ("proxy", "shop", app('a', 'a', ServingState::Serving, None)),
    ]
}

/// A fleet with one node for each reason why an app is not converged.
fn mixed_fleet_view() -> FleetView {
    let manifest = format!(
        "generation: 7\nproduction:\n  torn: short\n  shop:\n    sha: {}\n    overrides: [{{match: {{zone: b}}, sha: {}}}]\n  held: {{sha: {}, hold: {{reason: stocktaking, by: ana}}}}\n",
        sha('a'),
        sha('b'),
        sha('c')
    );
    let manifest = Manifest::parse("m", manifest.as_bytes()).unwrap();
    let store = MemoryStore::new();
    store.set_server_time(fixed_time());
    put(&store, &record("gone", 2));
    store.set_server_time(fixed_time() + SignedDuration::from_hours(2));
    for (node, name, app) in mixed_apps() {
        let mut record = record(node, 2);
        record.apps = [(name.to_owned(), app)].into();
        if node == "failed" {
            record.last_pass.outcome = Exit::Failed;
            record.last_pass.why = Some("shop/code: the build failed".into());
        }
        let reason = match node {
            "masked" => Some("service:puma: puma is masked"),
            "was-held" => Some("shop/code: held by bo"),
            "proxy" => Some("service:nginx: nginx is masked"),
            _ => None,
        };
        if reason.is_some() {
            record.last_pass.outcome = Exit::Waiting;
            record.last_pass.why = reason.map(str::to_owned);
        }
        put(&store, &record);
    }
    put(&store, &record("zone-b", 3)); // an override wants another sha there
    let snapshot = snapshot_of(&store, &mut RecordCache::empty("s", ENV));
    fleet_view(ENV, snapshot, Some(&manifest), HOUR, HOUR)
}

#[test]
fn fleet_view_gives_the_reason_for_each_app_not_converged() {
    let view = mixed_fleet_view();
    let lines: Vec<String> = view
        .nodes
        .iter()
        .map(|node| {
            let app = &node.apps[0];
            let why = app.why.as_deref().unwrap_or("-");
            format!("{}: {} {why}", node.node, app.outcome.word())
        })
        .collect();
    assert_eq!(
        lines,
        [
            "bad: rolled back it failed its gate",
            "extra: converged not in the manifest",
            "failed: failed shop/code: the build failed",
            "fine: converged -",
            "gone: stale stopped, or cut off from the store",
            "held: waiting held by ana: stocktaking",
            "late: pending not picked up yet",
            "masked: waiting puma is masked",
            "proxy: converged -",
            "torn: bad input m:3:9: torn: `short` is not a git sha",
            "was-held: converged held by bo",
            "zone-b: pending not picked up yet",
        ]
    );
}

#[test]
fn node_that_misses_two_heartbeats_is_stale_unless_its_pass_is_long() {
    let store = MemoryStore::new();
    store.set_server_time(fixed_time());
    put(&store, &record("web1", 1));
    let mut busy = record("web2", 2);
    busy.last_pass.outcome = Exit::Pending;
    put(&store, &busy);
    let mut failed = record("web3", 3);
    failed.last_pass.outcome = Exit::Failed;
    failed.last_pass.why = Some("service:nginx: it failed".into());
    put(&store, &failed);
    let mut slow = record("web4", 4);
    slow.heartbeat_s = Some(600);
    put(&store, &slow);
    let view = |minutes| {
        store.set_server_time(fixed_time() + SignedDuration::from_mins(minutes));
        let snapshot = snapshot_of(&store, &mut RecordCache::empty("s", ENV));
        let view = fleet_view(ENV, snapshot, None, HOUR, Duration::from_secs(300));
        let row = |node: NodeView| {
            let why = node.why.or(node.apps[0].why.clone()).unwrap_or_default();
            (node.outcome.word(), node.silent, why)
        };
        view.nodes.into_iter().map(row).collect::<Vec<_>>()
    };
    assert!(view(10).iter().all(|(_, silent, _)| !silent));
    let rows = view(11);
    assert_eq!(
        rows[0],
        (
            "stale",
            true,
            "no heartbeat for 11 min: its passes have stopped, or it is cut off from the store"
                .into()
        )
    );
    assert_eq!((rows[1].0, rows[1].1), ("pending", false));
    assert_eq!((rows[2].0, rows[2].1), ("failed", true));
    assert!(
        rows[2]
            .2
            .starts_with("service:nginx: it failed; no heartbeat"),
        "{rows:?}"
    );
    assert!(!rows[3].1, "{rows:?}");
}

#[test]
fn node_repeats_no_reason_of_its_apps() {
    let view = mixed_fleet_view();
    let node = |name: &str| view.nodes.iter().find(|node| node.node == name).unwrap();
    for (name, outcome, why) in [
        ("masked", Exit::Waiting, None),
        (
            "proxy",
            Exit::Waiting,
            Some("service:nginx: nginx is masked"),
        ),
        ("was-held", Exit::Converged, None),
        ("fine", Exit::Converged, None),
    ] {
        let node = node(name);
        assert_eq!(
            (node.outcome, node.why.as_deref()),
            (outcome, why),
            "{name}"
        );
    }
}

#[test]
fn view_of_one_app_has_the_outcome_of_its_nodes() {
    let mut view = mixed_fleet_view();
    assert_eq!((view.outcome, view.generation), (Exit::Failed, Some(7)));
    view.retain_app("held");
    assert_eq!((view.nodes.len(), view.outcome), (1, Exit::Waiting));
}
