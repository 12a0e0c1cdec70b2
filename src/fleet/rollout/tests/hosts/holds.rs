//! Holds of the manifest that come while hosts are at work.

use super::*;
use crate::ports::clock;

/// Publishes that the app is held; `named`: at this sha.
fn hold(fleet: &Fleet, named: Option<char>) {
    let named = named.map_or(String::new(), |digit| format!("sha: {}, ", sha(digit)));
    let text = format!(
        "generation: 2\n{ENV}:\n  shop: {{sha: {}, hold: {{{named}reason: \"a\\u001b[2J\", by: ana}}}}\n",
        sha('1')
    );
    let body = text.as_bytes();
    fleet
        .store
        .inner
        .put(KEY, body, WriteCondition::Always)
        .unwrap();
}

/// The host asks again right before the switch, some time after its first question.
fn confirm(host: &HostRollout) -> PermitDecision {
    host.looked_at.set(Duration::ZERO);
    assert!(clock::boot_time() > Duration::from_secs(5));
    host.confirm(Purpose::Deploy, true)
}

#[test]
fn hold_stops_a_host_before_its_switch_and_frees_its_slot() {
    let fleet = fleet(one_slot());
    let (web1, web2) = (fleet.host(1), fleet.host(2));
    assert_eq!(request(&web1), PermitDecision::Granted);
    hold(&fleet, None);
    let PermitDecision::Wait(why) = confirm(&web1) else {
        panic!("it goes on");
    };
    assert!(
        why.starts_with(r"it is held by ana until it is lifted: a\x1b[2J"),
        "{why}"
    );
    assert!(why.contains("--lift-hold"), "{why}");
    assert!(!web1.is_waiting(), "no other host ends it");
    // The slot is free: another host may go back by it.
    assert_eq!(web2.request(Purpose::Back, true), PermitDecision::Granted);
}

#[test]
fn trial_under_a_hold_finishes_and_others_may_go_back() {
    let fleet = fleet(one_slot());
    let (web1, web2) = (fleet.host(1), fleet.host(2));
    assert_eq!(request(&web1), PermitDecision::Granted);
    hold(&fleet, None);
    assert_eq!(settle(&web1, AppPosition::Wanted), Settled::Nothing);
    assert!(matches!(request(&web2), PermitDecision::Wait(_)));
    assert_eq!(web1.request(Purpose::Back, true), PermitDecision::Granted);
}

#[test]
fn hold_at_the_wanted_sha_stops_nobody() {
    let fleet = fleet(one_slot());
    let (web1, web2) = (fleet.host(1), fleet.host(2));
    hold(&fleet, Some('1'));
    deploy(&web1);
    deploy(&web2);
    hold(&fleet, Some('0'));
    let web3 = fleet.host(3);
    assert!(matches!(request(&web3), PermitDecision::Wait(_)));
    let forced = HostRollout {
        ignores_hold: true,
        ..fleet.host(4)
    };
    assert_eq!(request(&forced), PermitDecision::Granted);
}

#[test]
fn app_that_comes_later_waits_for_no_sha_of_a_hold_that_is_over() {
    for (until, goes) in [
        ("2020-01-01T00:00:00Z", true),
        ("2999-01-01T00:00:00Z", false),
    ] {
        let fleet = fleet(one_slot());
        deploy(&fleet.host(1));
        let text = format!(
            "generation: 2\n{ENV}:\n  shop: {{sha: {}, hold: {{sha: {}, reason: r, by: ana, until: {until}}}}}\n  cart: {}\n",
            sha('1'),
            sha('0'),
            sha('5')
        );
        let body = text.as_bytes();
        fleet
            .store
            .inner
            .put(KEY, body, WriteCondition::Always)
            .unwrap();
        let sandbox = Sandbox::empty();
        let mut cart = fleet.rollout_of("cart", '5', "web1".into(), &sandbox);
        cart.policy.after = vec!["shop".into()];
        let is_granted = request(&cart) == PermitDecision::Granted;
        assert_eq!(is_granted, goes, "{until}");
    }
}
