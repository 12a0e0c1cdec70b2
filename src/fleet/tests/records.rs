//! Validation and limits of records.

use serde_json::json;

use super::*;
use crate::fleet::record::MAX_RECORD;

#[test]
fn record_survives_a_write_and_read() {
    let record = record("web1", 1);
    assert_eq!(
        NodeRecord::parse("web1", ENV, &record.to_json()).unwrap(),
        record
    );
}

#[test]
fn record_of_a_waiting_host_is_the_same_whoever_has_the_slots() {
    let waiting = |why: &str| {
        let mut record = record("web1", 1);
        record.last_pass.why = Some(why.into());
        record
    };
    let first = waiting("shop: waits for a slot: i-0abc has slot 0");
    assert!(first.same_content(&waiting("shop: waits for a slot: i-9fed has slot 7")));
    assert!(!first.same_content(&waiting("shop: waits for the canary i-0abc")));
}

/// Every version ever written must stay readable for as long as a host may still run it.
#[test]
fn first_record_version_is_still_parsed() {
    let old = include_bytes!("../fixtures/node-1.json");
    let record = NodeRecord::parse("web1", ENV, old).unwrap();
    assert_eq!(record.apps["shop"].state, ServingState::Serving);
    assert_eq!(Peer::from_record(&record).unwrap().apps, ["shop"]);
}

#[test]
fn unknown_fields_of_a_newer_version_are_ignored() {
    let mut value = serde_json::to_value(record("web1", 1)).unwrap();
    value["mood"] = json!({"good": true});
    value["apps"]["shop"]["state"] = json!("resting");
    let read = NodeRecord::parse("web1", ENV, value.to_string().as_bytes()).unwrap();
    assert_eq!(read.apps["shop"].state, ServingState::Unknown);
    assert!(
        Peer::from_record(&read).is_none(),
        "what is not known to serve is not listed"
    );
}

/// Places in a record, each with a value that a reader refuses.
fn hostile_values() -> Vec<(&'static str, serde_json::Value)> {
    vec![
        ("/version", json!(2)),
        ("/version", json!("1")),
        ("/node", json!("web2")),
        ("/node", json!("web1\nserver evil 6.6.6.6:80")),
        ("/environment", json!("staging")),
        ("/roles", json!(["app\n  bind :1"])),
        ("/roles", json!(["\u{1b}[2J"])),
        ("/tags", json!({"zone": "a\nserver evil 6.6.6.6:80"})),
        ("/tags", json!({"zone": "a b"})),
        ("/tags", json!({"zo ne": "a"})),
        ("/tags", json!({"zone": "\"; include /etc/shadow"})),
        ("/tags", json!({"zone": "x".repeat(200)})),
        ("/addresses", json!(["10.0.0.1 check\nserver evil"])),
        ("/addresses", json!(["evil.example"])),
        ("/addresses", json!(["0.0.0.0"])),
        ("/addresses", json!(["127.0.0.1"])),
        ("/addresses", json!(["224.0.0.1"])),
        ("/addresses", json!(["0.1.2.3"])),
        ("/addresses", json!(["255.255.255.255"])),
        ("/addresses", json!(["169.254.169.254"])),
        ("/addresses", json!(["::"])),
        ("/addresses", json!(["::1"])),
        ("/addresses", json!(["fe80::1"])),
        ("/addresses", json!(["ff02::1"])),
        ("/addresses", json!(["::ffff:127.0.0.1"])),
        ("/addresses", json!(["::ffff:a9fe:a9fe"])),
        ("/addresses", json!(["::127.0.0.1"])),
        ("/addresses", json!(["fd00:ec2::254"])),
        ("/addresses", json!(["10.0.0.1", "100.100.100.200"])),
        ("/addresses", json!(["64:ff9b::169.254.169.254"])),
        ("/addresses", json!(["2002:7f00:1::"])),
        ("/addresses", json!(["240.0.0.1"])),
        ("/addresses", json!(vec!["10.0.0.1"; 201])),
        ("/ports", json!({"http": 0})),
        ("/ports", json!({"http": 65536})),
        ("/ports", json!({"http": "80 check"})),
        ("/ports", json!({"ht\ntp": 80})),
        (
            "/apps",
            json!({"sh op": {"wanted": null, "actual": null, "state": "serving"}}),
        ),
        ("/apps/shop/actual", json!("master")),
        ("/machine_id", json!("x\ny")),
        ("/agent", json!("0.1 \u{1b}[31m")),
        (
            "/last_pass",
            json!({"at": "yesterday", "outcome": "converged"}),
        ),
        ("/last_pass", json!(null)),
    ]
}

#[test]
fn hostile_record_is_refused_and_reported_in_one_sanitized_line() {
    for (pointer, value) in hostile_values() {
        let mut json = serde_json::to_value(record("web1", 1)).unwrap();
        *json.pointer_mut(pointer).unwrap() = value.clone();
        let why = NodeRecord::parse("web1", ENV, json.to_string().as_bytes())
            .expect_err(&format!("{pointer} {value}"));
        assert!(
            !why.contains(char::is_control) && why.len() < 1500,
            "{why:?}"
        );
    }
}

#[test]
fn interval_of_heartbeats_that_would_overflow_is_refused() {
    let mut endless = record("web1", 1);
    endless.heartbeat_s = Some(u64::MAX);
    NodeRecord::parse("web1", ENV, &endless.to_json()).unwrap_err();
    endless.heartbeat_s = Some(999_999 * 3600);
    let read = NodeRecord::parse("web1", ENV, &endless.to_json()).unwrap();
    assert!(read.heartbeat().unwrap() * 3 > Duration::ZERO);
}

#[test]
fn malformed_or_oversized_record_is_refused() {
    let deep = "[".repeat(100_000);
    for body in ["", "{", "null", "[]", "\u{0}", &deep] {
        NodeRecord::parse("web1", ENV, body.as_bytes()).unwrap_err();
    }
    NodeRecord::parse("web1", ENV, &[0xff, 0xfe]).unwrap_err();
    NodeRecord::parse("web1", ENV, &vec![b' '; MAX_RECORD + 1]).unwrap_err();
}

#[test]
fn reason_is_shown_without_terminal_control_characters() {
    let mut evil = record("web1", 1);
    evil.last_pass.why = Some(format!("\u{1b}]0;x\u{7}\nroot# {}", "y".repeat(5000)));
    let read = NodeRecord::parse("web1", ENV, &evil.to_json()).unwrap();
    let why = read.last_pass.why.unwrap();
    assert!(
        !why.contains(char::is_control) && why.chars().count() <= 301,
        "{why:?}"
    );
}

#[test]
fn addresses_are_normalized() {
    let mut json = serde_json::to_value(record("web1", 1)).unwrap();
    json["addresses"] = json!(["::ffff:10.0.0.7", "2001:db8::7"]);
    let read = NodeRecord::parse("web1", ENV, json.to_string().as_bytes()).unwrap();
    let expected: Vec<std::net::IpAddr> =
        vec!["10.0.0.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
    assert_eq!(read.addresses, expected);
}

#[test]
fn serving_host_stays_listed_while_its_next_release_is_on_trial() {
    let listed = |state: ServingState, served: bool| {
        let mut trying = record("web1", 1);
        let app = trying.apps.get_mut("shop").unwrap();
        (app.state, app.served) = (state, served);
        let read = NodeRecord::parse("web1", ENV, &trying.to_json()).unwrap();
        Peer::from_record(&read).map(|peer| peer.apps)
    };
    let shop = || Some(vec!["shop".to_owned()]);
    assert_eq!(listed(ServingState::OnTrial, true), shop());
    assert_eq!(listed(ServingState::OnTrial, false), None, "it joins");
    assert_eq!(listed(ServingState::Serving, false), shop());
    assert_eq!(listed(ServingState::Bad, true), None);
}
