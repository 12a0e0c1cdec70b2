//! What an operator writes, and what keepalived gets.

use serde_json::json;

use super::*;

fn peer(name: &str, addresses: &[&str], tags: &[(&str, &str)]) -> Peer {
    let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
    let tags: Vec<_> = tags
        .iter()
        .map(|(key, value)| json!({*key: value}))
        .collect();
    let tags = tags.first().cloned().unwrap_or_else(|| json!({}));
    serde_json::from_value(json!({
        "name": name, "address": addresses[0], "addresses": addresses, "ports": {}, "tags": tags,
        "roles": ["keepalived"], "apps": [],
    }))
    .unwrap()
}

fn balancers(count: usize) -> Vec<Peer> {
    let names = (1..=count).map(|n| (format!("lb{n:02}"), format!("10.0.0.{}", 10 + n)));
    names
        .map(|(name, ip)| peer(&name, &[&ip, "2001:db8::1"], &[]))
        .collect()
}

fn on(
    name: &str,
    balancers: &[Peer],
    settings: serde_json::Value,
) -> Result<Vec<Instance>, String> {
    let this = ThisHost {
        name,
        addresses: vec![
            "10.0.0.99".parse().unwrap(),
            "2001:db8::99".parse().unwrap(),
        ],
        interface: "eth0",
    };
    instances(&settings, balancers, &this)
}

fn only(name: &str, balancers: &[Peer]) -> Instance {
    let all = on(name, balancers, json!({"addresses": ["10.0.0.5/24"]})).unwrap();
    let [instance] = &all[..] else {
        panic!("{all:?}")
    };
    instance.clone()
}

#[test]
fn plain_pair_needs_only_its_address() {
    let pair = balancers(2);
    let first = only("lb01", &pair);
    assert_eq!(
        first,
        Instance {
            name: "web".into(),
            family: 4,
            interface: "eth0".into(),
            router_id: 5,
            priority: 250,
            preempt: false,
            is_known: true,
            source: "10.0.0.11".parse().unwrap(),
            peers: vec!["10.0.0.12".into()],
            addresses: vec!["10.0.0.5/24".into()],
            claim: None,
            lines: Vec::new(),
        }
    );
    let second = only("lb02", &pair);
    assert_eq!(
        (second.priority, &second.peers[..]),
        (240, &["10.0.0.11".to_owned()][..])
    );
}

#[test]
fn balancer_without_peers_speaks_to_nobody() {
    let alone = only("lb01", &balancers(1));
    assert!(alone.is_known);
    assert_eq!(alone.peers, ["10.0.0.5"]);
    // The others cannot know it before its record is in the store.
    let new = only("lb03", &balancers(2));
    assert!(!new.is_known);
    assert_eq!(new.source.to_string(), "10.0.0.99");
    assert_eq!(new.priority, 50);
}

#[test]
fn each_address_of_a_family_begins_at_another_balancer() {
    let settings = json!({"instances": {
        "a": {"addresses": ["10.0.0.5/24"]}, "b": {"addresses": ["10.0.0.6/24"]}, "six": {"addresses": ["2001:db8::5/64"]},
    }});
    let of_host = |name: &str| {
        let all = on(name, &balancers(3), settings.clone()).unwrap();
        let rows = all
            .into_iter()
            .map(|each| (each.name, each.priority, each.preempt));
        rows.collect::<Vec<_>>()
    };
    let row = |name: &str, priority, preempt| (name.to_owned(), priority, preempt);
    let expected = [
        row("a", 250, true),
        row("b", 230, true),
        row("six", 250, false),
    ];
    assert_eq!(of_host("lb01"), expected);
    let expected = [
        row("a", 240, true),
        row("b", 250, true),
        row("six", 240, false),
    ];
    assert_eq!(of_host("lb02"), expected);
    let expected = [
        row("a", 230, true),
        row("b", 240, true),
        row("six", 230, false),
    ];
    assert_eq!(of_host("lb03"), expected);
}

#[test]
fn tag_decides_the_order_before_the_name() {
    let pair = [
        peer("lb1", &["10.0.0.11"], &[]),
        peer("lb2", &["10.0.0.12"], &[("rank", "9")]),
        peer("lb3", &["10.0.0.13"], &[("rank", "10")]),
    ];
    let settings = json!({"addresses": ["10.0.0.5/24"], "priority_tag": "rank"});
    let priority = |name| on(name, &pair, settings.clone()).unwrap()[0].priority;
    assert_eq!(["lb3", "lb2", "lb1"].map(priority), [250, 240, 230]);
    let bad = [peer("lb1", &["10.0.0.11"], &[("rank", "high")])];
    let error = on("lb1", &bad, settings.clone()).unwrap_err();
    assert_eq!(
        error,
        "keepalived.priority_tag: lb1 has the tag rank=high, expected a number"
    );
    // The record of another host stops nobody else.
    let other = [bad[0].clone(), peer("lb2", &["10.0.0.12"], &[])];
    assert_eq!(on("lb2", &other, settings).unwrap().len(), 1);
}

#[test]
fn peers_are_addresses_of_the_family_and_never_those_that_move() {
    let pair = [
        peer("lb1", &["10.0.0.5", "2001:db8::1", "10.0.0.11"], &[]),
        peer("lb2", &["10.0.0.12"], &[]),
    ];
    assert_eq!(only("lb2", &pair).peers, ["10.0.0.11"]);
    let six = json!({"addresses": ["2001:db8::5/64"]});
    let first = &on("lb1", &pair, six.clone()).unwrap()[0];
    assert_eq!(
        (first.source.to_string().as_str(), first.peers.len()),
        ("2001:db8::1", 1)
    );
    assert_eq!(first.peers, ["2001:db8::5"], "lb2 has no address of IPv6");
    let this = ThisHost {
        name: "lb2",
        addresses: vec!["10.0.0.12".parse().unwrap()],
        interface: "eth0",
    };
    let error = instances(&six, &pair, &this).unwrap_err();
    assert!(
        error.contains("addresses of IPv6, and this host has none"),
        "{error}"
    );
}

#[test]
fn twenty_balancers_have_priorities_and_no_more() {
    assert_eq!(only("lb20", &balancers(20)).priority, 60);
    let error = on(
        "lb01",
        &balancers(21),
        json!({"addresses": ["10.0.0.5/24"]}),
    )
    .unwrap_err();
    assert!(
        error.contains("21 hosts have the role, and 20 can share"),
        "{error}"
    );
}

#[test]
fn mistake_is_named_with_what_is_expected() {
    let instances = |fields: serde_json::Value| json!({"instances": {"a": fields}});
    for (settings, expected) in [
        (
            json!({}),
            "keepalived.addresses: expected an address and the length of its prefix, such as `10.0.0.5/24`, found none",
        ),
        (
            json!({"addresses": []}),
            "keepalived.addresses: expected an address",
        ),
        (
            json!({"addresses": ["10.0.0.5"]}),
            "keepalived.addresses: `10.0.0.5` has no prefix: expected",
        ),
        (
            json!({"addresses": ["10.0.0.5/33"]}),
            "has a prefix that is not from 1 to 32",
        ),
        (
            json!({"addresses": ["10.0.0.500/24"]}),
            "is no address: expected",
        ),
        (
            json!({"addresses": ["127.0.0.1/8"]}),
            "cannot be the address of a host",
        ),
        (
            json!({"addresses": ["10.0.0.5/24", "10.0.0.5/16"]}),
            "is there twice",
        ),
        (
            json!({"addresses": ["10.0.0.5/24", "2001:db8::5/64"]}),
            "of another family than the first one",
        ),
        (
            json!({"addresses": "10.0.0.5/24"}),
            "keepalived: invalid type: string",
        ),
        (
            json!({"adresses": ["10.0.0.5/24"]}),
            "keepalived: unknown field `adresses`, expected",
        ),
        (
            json!({"addresses": ["10.0.0.5/24"], "router_id": 0}),
            "keepalived.router_id: expected a number from 1 to 255, found 0",
        ),
        (
            json!({"addresses": ["10.0.1.0/23"]}),
            "keepalived.router_id: 10.0.1.0 does not end in a number",
        ),
        (
            json!({"addresses": ["2001:db8::abcd/64"]}),
            "keepalived.router_id: 2001:db8::abcd does not end",
        ),
        (
            json!({"addresses": ["10.0.0.5/24"], "interface": "eth0; x"}),
            "keepalived.interface: `eth0; x` is not the name",
        ),
        (
            json!({"addresses": ["10.0.0.5/24"], "private_ip": "10.0.0.5/24"}),
            "keepalived.private_ip: `10.0.0.5/24` is not an IPv4 address",
        ),
        (
            json!({"addresses": ["10.0.0.5/24"], "private_ip": "10.0.0.5", "elastic_ip": "eipalloc-0a"}),
            "keepalived: `elastic_ip` and `private_ip` are two addresses",
        ),
        (
            json!({"addresses": ["10.0.0.5/24"], "elastic_ip": "eipalloc-0A1B"}),
            "keepalived.elastic_ip: `eipalloc-0A1B` is not the id",
        ),
        (
            json!({"instances": {
                "a": {"addresses": ["10.0.0.5/24"], "elastic_ip": "eipalloc-0a"},
                "b": {"addresses": ["10.0.0.6/24"], "elastic_ip": "eipalloc-0a"}
            }}),
            "keepalived.instances: a and b both claim eipalloc-0a",
        ),
        (
            json!({"addresses": ["10.0.0.5/24"], "elastic_ip": "1.2.3.4"}),
            "keepalived.elastic_ip: `1.2.3.4` is not the id",
        ),
        (
            json!({"addresses": ["10.0.0.5/24"], "lines": ["a\nb"]}),
            "keepalived.lines: expected one line",
        ),
        (
            json!({"addresses": ["10.0.0.5/24"], "global_lines": ["}"]}),
            "keepalived.global_lines: expected a `}` for each",
        ),
        (
            json!({"addresses": ["10.0.0.5/24"], "instances": {"a": {}}}),
            "belong to one of `instances`",
        ),
        (
            instances(json!({})),
            "keepalived.instances.a.addresses: expected an address",
        ),
        (
            instances(json!({"addresses": ["10.0.0.5/24"], "adresses": []})),
            "unknown field `adresses`",
        ),
        (
            json!({"instances": {"a b": {"addresses": ["10.0.0.5/24"]}}}),
            "keepalived.instances: `a b` is not a name",
        ),
        (
            json!({"instances": {"a": {"addresses": ["10.0.0.5/24"]}, "b": {"addresses": ["10.0.1.5/24"]}}}),
            "keepalived.instances: a and b have the same router id, 5: give one of them another `router_id`",
        ),
        (
            json!({"instances": {"a": {"addresses": ["10.0.0.5/24"]}, "b": {"addresses": ["10.0.0.5/24"], "router_id": 6}}}),
            "keepalived.instances: a and b have the same address",
        ),
        (
            json!({"addresses": ["2001:db8::5/64"], "password": "hunter2"}),
            "keepalived.password: VRRP has none for IPv6",
        ),
    ] {
        let error = on("lb01", &balancers(2), settings.clone()).err();
        let error = error.unwrap_or_else(|| panic!("{settings}"));
        assert!(error.contains(expected), "{settings}: {error}");
    }
    for (password, expected) in [
        (json!("hunter2-hunter2"), "expected at most 8 characters"),
        (json!(""), "expected a text of letters"),
        (json!("a b"), "expected a text of letters"),
        (json!(12345678), "expected a text of letters"),
    ] {
        let settings = json!({"addresses": ["10.0.0.5/24"], "password": password});
        let error = on("lb01", &balancers(2), settings).unwrap_err();
        assert!(
            error.contains(expected) && !error.contains("hunter2"),
            "{error}"
        );
    }
}

#[test]
fn record_of_an_earlier_name_makes_no_balancer_its_own_peer() {
    let mut pair = balancers(2);
    pair.push(peer("lb1-old", &["10.0.0.11"], &[]));
    assert_eq!(only("lb01", &pair).peers, ["10.0.0.12"]);
    assert_eq!(only("lb02", &pair).peers, ["10.0.0.11"]);
    // Alone, it speaks to nobody.
    pair.remove(1);
    assert_eq!(only("lb01", &pair).peers, ["10.0.0.5"]);
}
