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
    let look = snapshot_of(&store, &mut cache);
    assert_eq!(look.reads, 1);
    assert_eq!(look.rows[2].record.addresses, moved.addresses);
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
    let spoil = |name: &str, body: &[u8]| {
        let at = format!("nodes/{ENV}/{name}");
        store.put(&at, body, WriteCondition::Always).unwrap();
    };
    spoil("web2.json", b"{");
    spoil("web3.json", b"not a record");
    spoil("web4.json", &vec![b'x'; 3 << 20]);
    spoil("README", b"hello");
    spoil("a b.json", b"{}");
    spoil("deep/er.json", b"{}");
    let look = snapshot_of(&store, &mut cache);
    assert_eq!(names(&look), ["web1", "web2"]);
    assert_eq!(look.reads, 2, "what is too large is not even read");
    assert_eq!(look.problems.len(), 6, "{:#?}", look.problems);
    assert!(
        look.problems
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
        let look = snapshot_of(store, &mut RecordCache::empty("s", ENV));
        let mut view = fleet_view(ENV, look, None, HOUR);
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
    let look = snapshot_of(&store, &mut RecordCache::empty("s", ENV));
    assert_eq!(look.problems.len(), 1);
    assert!(
        look.problems[0].contains("web1 and web2 have the same machine id"),
        "{:?}",
        look.problems
    );
}

#[test]
fn fleet_view_gives_the_reason_for_each_app_not_converged() {
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
    let app = |wanted: char, actual: char, state: ServingState, why: Option<&str>| AppRecord {
        wanted: Some(sha(wanted)),
        actual: Some(sha(actual)),
        state,
        served: false,
        outcome: None,
        since: None,
        why: why.map(str::to_owned),
    };
    let mut nodes: Vec<(&str, &str, AppRecord)> = vec![
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
    ];
    for (node, name, app) in nodes.drain(..) {
        let mut record = record(node, 2);
        record.apps = [(name.to_owned(), app)].into();
        if node == "failed" {
            record.last_pass.outcome = Exit::Failed;
            record.last_pass.why = Some("shop/code: the build failed".into());
        }
        let waits = match node {
            "masked" => Some("service:puma: puma is masked"),
            "was-held" => Some("shop/code: held by bo"),
            "proxy" => Some("service:nginx: nginx is masked"),
            _ => None,
        };
        if waits.is_some() {
            record.last_pass.outcome = Exit::Waiting;
            record.last_pass.why = waits.map(str::to_owned);
        }
        put(&store, &record);
    }
    put(&store, &record("zone-b", 3)); // an override wants another sha there
    let look = snapshot_of(&store, &mut RecordCache::empty("s", ENV));
    let mut view = fleet_view(ENV, look, Some(&manifest), HOUR);
    let told: Vec<String> = view
        .nodes
        .iter()
        .map(|node| {
            let app = &node.apps[0];
            let why = app.why.as_deref().unwrap_or("-");
            format!("{}: {} {why}", node.node, app.outcome.word())
        })
        .collect();
    assert_eq!(
        told,
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
    assert_eq!((view.outcome, view.generation), (Exit::Failed, Some(7)));
    view.retain_app("held");
    assert_eq!((view.nodes.len(), view.outcome), (1, Exit::Waiting));
}
