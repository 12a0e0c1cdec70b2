//! What a hold means to a host.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::tests::{NEXT, SHA, parse_and_select, tags};
use super::{DesiredState, NodeContext, ReadOptions, Sha, read};
use crate::ports::store::{MemoryStore, Store, WriteCondition};
use crate::ports::testing::Sandbox;

/// `shop` wants `NEXT`, and is held at `SHA`; zone b has an override. The node's clock says five.
fn held(until: &str, zone: &str) -> DesiredState {
    let text = format!(
        "production:\n  shop:\n    sha: {NEXT}\n    previous: {SHA}\n    hold: {{sha: {SHA}, reason: bad, by: ana, until: {until}}}\n    overrides: [{{match: {{zone: b}}, sha: {NEXT}}}]\n"
    );
    parse_and_select(&text, &tags(&[("zone", zone)]), &["shop"]).unwrap()
}

#[test]
fn hold_that_names_a_sha_freezes_all_hosts_at_it_while_it_lasts() {
    let state = held("2026-11-21T05:00:01Z", "a");
    let app = &state.apps["shop"];
    assert_eq!(app.sha.as_str(), SHA);
    assert_eq!(app.previous, None, "it is what is wanted now");
    let hold = app.hold.as_ref().unwrap();
    assert!(!hold.blocks(&app.sha) && hold.blocks(&app.unheld_sha));
    assert_eq!(
        hold.description(),
        "held at 4f2c9d0 by ana until 2026-11-21T05:00:01Z: bad"
    );
    let over = held("2026-11-21T05:00:00Z", "a");
    let over = &over.apps["shop"];
    assert_eq!((over.sha.as_str(), over.hold.is_none()), (NEXT, true));
    let shas = |app: &super::DesiredApp| app.wanted_shas.len();
    assert_eq!(
        (shas(app), shas(over)),
        (2, 2),
        "what is wanted does not depend on the time"
    );
    let overridden = held("2026-11-21T06:00:00Z", "b");
    let overridden = &overridden.apps["shop"];
    assert_eq!(overridden.sha.as_str(), NEXT);
    assert!(overridden.hold.as_ref().unwrap().blocks(&overridden.sha));
}

#[test]
fn operator_who_goes_over_a_hold_gets_what_is_wanted_behind_it() {
    let mut state = held("2026-11-21T06:00:00Z", "a");
    state.lift_holds();
    let app = &state.apps["shop"];
    assert_eq!((app.sha.as_str(), app.ignores_hold), (NEXT, true));
}

#[test]
fn hold_ends_by_the_clock_of_the_store_for_all_hosts() {
    let (store, sandbox) = (MemoryStore::new(), Sandbox::empty());
    let text = format!(
        "production:\n  shop: {{sha: {NEXT}, hold: {{sha: {SHA}, reason: r, by: ana, until: 2026-11-21T06:00:00Z}}}}\n"
    );
    let (key, body) = ("m.yml", text.as_bytes());
    store.put(key, body, WriteCondition::Always).unwrap();
    let no_tags = BTreeMap::new();
    let apps = ["shop".to_owned()];
    let sha_at = |own: &str, of_store: &str| -> Sha {
        let node = NodeContext {
            environment: "production",
            tags: &no_tags,
            now: own.parse().unwrap(),
            last_answer: None,
            signers: None,
        };
        let now: Timestamp = of_store.parse().unwrap();
        store.set_server_time(now);
        let options = ReadOptions {
            force: false,
            save_last_good: true,
        };
        let desired = read(&store, key, options, &sandbox.host, (&node, &apps)).unwrap();
        desired.apps["shop"].sha.clone()
    };
    let (early, late) = ("2026-11-21T05:59:59Z", "2026-11-21T06:00:00Z");
    assert_eq!(sha_at(late, early).as_str(), SHA);
    // The manifest itself has not changed since.
    assert_eq!(sha_at(early, late).as_str(), NEXT);
    store.set_unreachable(true);
    assert_eq!(sha_at(early, late).as_str(), SHA, "nobody knows better");
}
