//! Which answers templates get, and which the shrink guard refuses.

use std::sync::Arc;

use super::super::last_good::{LastGoodLists, NodeList};
use super::super::peer_list::{ObservedNodes, PeerList, ShrinkGuard};
use super::*;
use crate::settings::Settings;

pub(super) fn shrink_guard(now: Timestamp) -> ShrinkGuard {
    ShrinkGuard {
        max_shrink: 50,
        accept_shrink: false,
        now,
    }
}

fn peers(count: u8) -> Vec<Arc<Peer>> {
    (1..=count)
        .map(|n| Arc::new(Peer::from_record(&record(&format!("web{n}"), n)).unwrap()))
        .collect()
}

pub(super) fn shop_query() -> Query {
    Query {
        app: Some("shop".into()),
        ..Query::default()
    }
}

/// The last good lists between passes, by query.
pub(super) type KnownLists = std::collections::BTreeMap<String, NodeList>;

/// The same in its saved form.
pub(super) fn last_good_lists(known: &KnownLists) -> LastGoodLists {
    let mut lists = LastGoodLists::empty("dir:/s", ENV);
    lists.lists = known.clone();
    lists
}

/// Simulates a pass with `observed` nodes in the store and the `known` lists; returns the number of nodes that
/// the template gets, whether the last good list stayed, and the lists afterwards.
pub(super) fn pass(
    observed: Option<u8>,
    known: &KnownLists,
    guard: ShrinkGuard,
) -> (usize, bool, KnownLists) {
    let observed = observed.map_or(ObservedNodes::NotAsked, |count| {
        ObservedNodes::Complete(peers(count))
    });
    let (nodes, kept, known) = query_nodes(observed, known, guard);
    (nodes.len(), kept, known)
}

/// Like [`pass`], with the nodes themselves.
fn query_nodes(
    observed: ObservedNodes,
    known: &KnownLists,
    guard: ShrinkGuard,
) -> (Vec<Arc<Peer>>, bool, KnownLists) {
    let mut peers = PeerList::new(Vec::new(), observed, last_good_lists(known), guard);
    let nodes = peers.nodes(&shop_query()).unwrap();
    let results = peers.results();
    let kept = results.values().any(|result| result.kept_reason.is_some());
    let known = results
        .iter()
        .map(|(query, result)| (query.clone(), result.list.clone()));
    (nodes, kept, known.collect())
}

#[test]
fn empty_or_much_smaller_list_is_refused_until_accepted() {
    for (before, now, given) in [
        (0, 0, 0),
        (0, 4, 4),
        (4, 0, 4),
        (1, 0, 1),
        (4, 1, 4),
        (4, 2, 2),
        (4, 3, 3),
        (3, 1, 3),
        (2, 1, 1),
        (4, 9, 9),
    ] {
        let (_, _, known) = pass(
            Some(before),
            &Default::default(),
            shrink_guard(fixed_time()),
        );
        let (nodes, kept, known) = pass(Some(now), &known, shrink_guard(fixed_time()));
        assert_eq!(nodes, usize::from(given), "{before} then {now}");
        assert_eq!(kept, given != now, "{before} then {now}");
        let accept = ShrinkGuard {
            accept_shrink: true,
            ..shrink_guard(fixed_time())
        };
        let (nodes, kept, known) = pass(Some(now), &known, accept);
        assert_eq!((nodes, kept), (usize::from(now), false), "accepted");
        let (nodes, kept, _) = pass(Some(now), &known, shrink_guard(fixed_time()));
        assert_eq!((nodes, kept), (usize::from(now), false), "and that lasts");
    }
}

#[test]
fn gradual_shrink_is_refused_below_half_of_the_last_hour() {
    let (_, _, mut known) = pass(Some(8), &Default::default(), shrink_guard(fixed_time()));
    let mut given = Vec::new();
    for step in 1..=8_u8 {
        let now = fixed_time() + SignedDuration::from_secs(30 * i64::from(step));
        let (nodes, _, after) = pass(Some(8 - step), &known, shrink_guard(now));
        known = after;
        given.push(nodes);
    }
    assert_eq!(given, [7, 6, 5, 4, 4, 4, 4, 4]);
}

#[test]
fn refused_shrink_does_not_expire() {
    let minutes = |minutes: i64| shrink_guard(fixed_time() + SignedDuration::from_mins(minutes));
    let hours = |hours: i64| minutes(60 * hours);
    let (_, _, known) = pass(Some(8), &Default::default(), hours(0));
    // The accepted size counts for an hour, and then the size that it shrank to.
    let (nodes, kept, shrunk) = pass(Some(4), &known, hours(1));
    assert_eq!((nodes, kept), (4, false));
    assert_eq!(pass(Some(2), &shrunk, hours(1)).0, 4);
    assert_eq!(pass(Some(2), &shrunk, hours(3)).0, 2);
    // A refusal still holds a day later, by the sizes in the hour before it.
    let (nodes, kept, known) = pass(Some(5), &known, minutes(30));
    assert_eq!((nodes, kept), (5, false));
    let (_, _, mut refused) = pass(Some(3), &known, minutes(40));
    for hour in 1..24 {
        let (nodes, kept, after) = pass(Some(3), &refused, hours(hour));
        assert_eq!((nodes, kept), (5, true), "hour {hour}");
        refused = after;
    }
    let (nodes, kept, mended) = pass(Some(4), &refused, hours(24));
    assert_eq!((nodes, kept), (4, false), "it recovers by itself");
    let (nodes, kept, _) = pass(Some(2), &mended, hours(24));
    assert_eq!((nodes, kept), (4, true), "and is held against five still");
}

#[test]
fn new_or_changed_nodes_are_listed_while_a_shrink_is_refused() {
    let (_, _, known) = pass(Some(6), &Default::default(), shrink_guard(fixed_time()));
    let mut moved = record("web1", 1);
    moved.addresses = vec!["10.0.0.101".parse().unwrap()];
    let observed = || {
        let joining = Arc::new(Peer::from_record(&record("web9", 9)).unwrap());
        ObservedNodes::Complete(vec![Arc::new(Peer::from_record(&moved).unwrap()), joining])
    };
    let lines = |nodes: &[Arc<Peer>]| -> Vec<String> {
        let lines = nodes.iter().map(|n| format!("{} {}", n.name, n.address));
        lines.collect()
    };
    let (nodes, kept, known) = query_nodes(observed(), &known, shrink_guard(fixed_time()));
    assert!(kept);
    let given = lines(&nodes);
    assert_eq!(given.len(), 7, "no node leaves: {given:?}");
    assert!(given.contains(&"web1 10.0.0.101".to_owned()), "{given:?}");
    assert!(given.contains(&"web9 10.0.0.9".to_owned()), "{given:?}");
    // The same if the store does not answer next; new nodes do not raise the baseline.
    let (nodes, _, known) = query_nodes(
        ObservedNodes::Unavailable("it is down".into()),
        &known,
        shrink_guard(fixed_time()),
    );
    assert_eq!(lines(&nodes), given);
    let (nodes, kept, _) = query_nodes(
        ObservedNodes::Complete(peers(3)),
        &known,
        shrink_guard(fixed_time()),
    );
    assert_eq!((nodes.len(), kept), (3, false));
}

#[test]
fn partially_read_list_removes_no_node() {
    let part = |count| ObservedNodes::Partial(peers(count), "2 could not be read".into());
    let mut cold = PeerList::new(
        Vec::new(),
        part(3),
        last_good_lists(&KnownLists::new()),
        shrink_guard(fixed_time()),
    );
    let why = cold.nodes(&shop_query()).unwrap_err();
    assert!(why.contains("2 could not be read"), "{why}");
    assert!(cold.query_error().is_some());
    let (_, _, known) = pass(Some(4), &Default::default(), shrink_guard(fixed_time()));
    for (observed, given) in [(0, 4), (3, 4), (5, 5)] {
        let (nodes, kept, after) = query_nodes(part(observed), &known, shrink_guard(fixed_time()));
        assert_eq!((nodes.len(), kept), (given, true), "{observed}");
        let (nodes, kept, _) = pass(None, &after, shrink_guard(fixed_time()));
        assert_eq!((nodes, kept), (given, true), "status knows");
    }
}

#[test]
fn accepting_a_shrink_names_the_queries_it_changes() {
    let (_, _, known) = pass(Some(4), &Default::default(), shrink_guard(fixed_time()));
    let accept = ShrinkGuard {
        accept_shrink: true,
        ..shrink_guard(fixed_time())
    };
    for (now, expected) in [(4, None), (3, None), (1, Some("1 node"))] {
        let mut peers = PeerList::new(
            Vec::new(),
            ObservedNodes::Complete(peers(now)),
            last_good_lists(&known),
            accept,
        );
        peers.nodes(&shop_query()).unwrap();
        let result = peers.results().values().next().unwrap();
        let message = result.accepted_shrink.as_deref();
        assert_eq!(message.is_some(), expected.is_some(), "{message:?}");
        let message = message.unwrap_or_default();
        assert!(message.contains(expected.unwrap_or_default()), "{message}");
        assert!(
            message.is_empty() || message.contains("nodes(app=\"shop\")"),
            "{message}"
        );
    }
}

#[test]
fn unavailable_store_keeps_the_last_good_list_or_fails_without_one() {
    let (_, _, known) = pass(Some(3), &Default::default(), shrink_guard(fixed_time()));
    let (nodes, kept, after) = pass(None, &known, shrink_guard(fixed_time()));
    assert_eq!((nodes, kept), (3, false));
    assert_eq!(after, known);
    let unavailable = ObservedNodes::Unavailable("it is down".into());
    let mut peers = PeerList::new(
        Vec::new(),
        unavailable,
        last_good_lists(&known),
        shrink_guard(fixed_time()),
    );
    assert_eq!(peers.nodes(&shop_query()).unwrap().len(), 3);
    let kept = peers
        .results()
        .values()
        .next()
        .unwrap()
        .kept_reason
        .clone()
        .unwrap();
    assert!(
        kept.contains("it is down") && kept.contains("web1, web2, web3"),
        "{kept}"
    );
    let why = peers.nodes(&Query::default()).unwrap_err();
    assert!(why.contains("nodes(): it is down"), "{why}");
    assert!(peers.query_error().is_some());
}

/// Three nodes with an app, one without, one without an address, and two from the settings.
fn mixed_peers() -> PeerList {
    let mut joining = record("web0", 10);
    joining.apps.get_mut("shop").unwrap().state = ServingState::OnTrial;
    let mut plain = record("db1", 20);
    plain.apps.clear();
    plain.roles = vec!["db".into()];
    plain.ports.clear();
    let mut homeless = record("web9", 9);
    homeless.addresses.clear();
    let records = [
        record("web2", 2),
        record("web1", 1),
        joining,
        plain,
        homeless,
    ];
    let observed = records.iter().filter_map(Peer::from_record);
    let static_node = crate::settings::StaticNode {
        addresses: vec!["10.9.9.9".parse().unwrap()],
        ports: [("http".to_owned(), 8080)].into(),
        tags: [("zone".to_owned(), "c".to_owned())].into(),
        roles: vec!["app".into()],
        apps: vec!["shop".into()],
    };
    let static_peer = |name| Arc::new(Peer::from_settings(name, &static_node).unwrap());
    PeerList::new(
        vec![static_peer("old"), static_peer("web2")],
        ObservedNodes::Complete(observed.map(Arc::new).collect()),
        last_good_lists(&KnownLists::new()),
        shrink_guard(fixed_time()),
    )
}

#[test]
fn nodes_match_by_role_tag_app_and_port_sorted_by_name() {
    let mut peers = mixed_peers();
    let mut nodes = |query: Query| -> Vec<String> {
        let nodes = peers.nodes(&query).unwrap().into_iter();
        nodes
            .map(|peer| format!("{} {}", peer.name, peer.address))
            .collect()
    };
    let text = |text: &str| Some(text.to_owned());
    let with_role = |role: &str| Query {
        role: text(role),
        ..Query::default()
    };
    let with_tags = |tags: &[&str]| Query {
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        ..Query::default()
    };
    let web1 = "web1 10.0.0.1";
    let web2 = "web2 10.9.9.9"; // the settings override the record
    let all = ["db1 10.0.0.20", "old 10.9.9.9", web1, web2];
    assert_eq!(nodes(Query::default()), all);
    assert_eq!(nodes(with_role("app")), all[1..]);
    assert_eq!(nodes(with_role("db")), all[..1]);
    assert!(nodes(with_role("ap")).is_empty());
    assert_eq!(nodes(with_tags(&["zone=b"])), [web1]);
    assert_eq!(nodes(with_tags(&["zone"])).len(), 4);
    assert!(nodes(with_tags(&["zone=b", "rack"])).is_empty());
    let with_port = Query {
        port: text("http"),
        ..Query::default()
    };
    assert_eq!(nodes(with_port), all[1..]);
    let with_app = Query {
        app: text("shop"),
        ..with_role("app")
    };
    assert_eq!(nodes(with_app), all[1..]);
}

pub(super) fn settings(fleet: &str) -> (tempfile::TempDir, Settings) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("node.yml");
    let text = format!(
        "environment: production\nroles: [web]\nnode: lb1\nstore: {{url: \"dir:/s\"}}\n{fleet}"
    );
    #[allow(clippy::disallowed_methods, reason = "the test's own folder")]
    std::fs::write(&config, text).unwrap();
    let settings = crate::settings::load(&config, std::path::Path::new("/nonexistent")).unwrap();
    (folder, settings)
}

fn count(peers: &mut PeerSource<'_>) -> Result<usize, String> {
    let nodes = peers.load().nodes(&shop_query());
    nodes.map(|nodes| nodes.len())
}

#[test]
fn peers_are_saved_only_when_queried_and_changed() {
    let sandbox = Sandbox::empty();
    let (_folder, settings) = settings("");
    let store = MemoryStore::new();
    for last in 1..=3 {
        put(&store, &record(&format!("web{last}"), last));
    }
    let cache = std::path::Path::new("/var/lib/trueup/fleet.json");
    let quiet = PeerSource::from_store(&settings, &sandbox.host, &store, false);
    quiet.save(true).unwrap();
    assert!(sandbox.host.root.meta(cache).unwrap().is_none(), "no query");

    let mut first = PeerSource::from_store(&settings, &sandbox.host, &store, false);
    assert_eq!(count(&mut first), Ok(3));
    assert!(
        sandbox.host.root.meta(cache).unwrap().is_none(),
        "a plan keeps nothing"
    );
    first.save(true).unwrap();
    let saved = sandbox.host.root.meta(cache).unwrap().unwrap();
    let mut again = PeerSource::from_store(&settings, &sandbox.host, &store, false);
    assert_eq!(count(&mut again), Ok(3));
    again.save(true).unwrap();
    let unchanged = sandbox.host.root.meta(cache).unwrap().unwrap();
    assert_eq!(saved.ctime, unchanged.ctime, "nothing new, nothing written");
}

#[test]
fn emptied_or_unreachable_store_leaves_the_saved_peers() {
    let sandbox = Sandbox::empty();
    let (_folder, settings) = settings("");
    let store = MemoryStore::new();
    for last in 1..=3 {
        put(&store, &record(&format!("web{last}"), last));
    }
    let mut first = PeerSource::from_store(&settings, &sandbox.host, &store, false);
    assert_eq!(count(&mut first), Ok(3));
    first.save(true).unwrap();
    // An operator empties the registry: refused, kept, and `status` shows it without a request.
    for last in 1..=3 {
        store
            .delete(&record_key(ENV, &format!("web{last}")))
            .unwrap();
    }
    let mut empty = PeerSource::from_store(&settings, &sandbox.host, &store, false);
    assert_eq!(count(&mut empty), Ok(3));
    empty.save(true).unwrap();
    assert_eq!(empty.kept_reasons().len(), 1);
    let mut known = PeerSource::last_known(&settings, &sandbox.host);
    assert_eq!(count(&mut known), Ok(3));
    assert!(
        known.kept_reasons()[0].contains("refused since"),
        "{:?}",
        known.kept_reasons()
    );

    store.set_unreachable(true);
    let mut down = PeerSource::from_store(&settings, &sandbox.host, &store, false);
    assert_eq!(count(&mut down), Ok(3));
    assert!(
        down.kept_reasons()[0].contains("cannot be reached"),
        "{:?}",
        down.kept_reasons()
    );
    assert!(down.into_query_error().is_none());
    store.set_unreachable(false);
    let mut accepted = PeerSource::from_store(&settings, &sandbox.host, &store, true);
    assert_eq!(count(&mut accepted), Ok(0));
}
