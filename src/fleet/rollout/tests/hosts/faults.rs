//! Hosts that are unhealthy, that may not write, or have no store.

use super::*;
use crate::fleet::NodeRecord;
use crate::fleet::rollout::access::may_take_part;
use crate::fleet::rollout::entry::EntryState;

#[test]
fn restart_for_another_reason_waits_for_a_slot_and_keeps_it_while_unhealthy() {
    let fleet = fleet(one_slot());
    let (web1, web2) = (fleet.host(1), fleet.host(2));
    assert_eq!(
        web1.request(Purpose::Restart, true),
        PermitDecision::Granted
    );
    assert!(matches!(
        web2.request(Purpose::Restart, true),
        PermitDecision::Wait(_)
    ));
    let unhealthy = web1.settle(AppPosition::Other, &|| false).unwrap();
    assert_eq!(unhealthy, Settled::Proving);
    assert!(matches!(
        web2.request(Purpose::Restart, true),
        PermitDecision::Wait(_)
    ));
    settle(&web1, AppPosition::Other);
    assert_eq!(
        web2.request(Purpose::Restart, true),
        PermitDecision::Granted
    );
}

#[test]
fn host_that_may_not_write_goes_once_all_others_have_the_sha() {
    let fleet = fleet(one_slot());
    let (web1, web2) = (fleet.host(1), fleet.host(2));
    assert_eq!(request(&web1), PermitDecision::Granted);
    fleet.store.is_read_only.set(true);
    let PermitDecision::Wait(why) = request(&web2) else {
        panic!("it goes on");
    };
    assert!(why.contains("slot"), "{why}");
    fleet.store.is_read_only.set(false);
    settle(&web1, AppPosition::Wanted);
    fleet.store.is_read_only.set(true);
    let PermitDecision::Wait(why) = request(&web2) else {
        panic!("it goes on");
    };
    assert!(
        why.contains("it goes once all others have the sha"),
        "{why}"
    );
    fleet.store.is_read_only.set(false);
    deploy(&web2);
    let web3 = fleet.host(3);
    fleet.store.is_read_only.set(true);
    assert_eq!(request(&web3), PermitDecision::Granted);
}

#[test]
fn host_without_its_store_goes_nowhere_but_back_and_waits_for_no_timeout() {
    let fleet = fleet(one_slot());
    let web1 = fleet.host(1);
    let host = FleetHost {
        is_cut_off: true,
        ..fleet.fleet_host("web1".into(), &fleet.hosts.borrow()[0])
    };
    let web1 = HostRollout {
        host: Rc::new(host),
        ..web1
    };
    let before = fleet.store.calls.get();
    for decision in [
        request(&web1),
        web1.peek(Purpose::Restart, true),
        web1.confirm(Purpose::Deploy, true),
    ] {
        assert_eq!(
            decision,
            wait("it cannot ask for permission: the store does not answer")
        );
    }
    // An operator's rollback, in an outage.
    assert_eq!(web1.peek(Purpose::Back, true), PermitDecision::Granted);
    assert_eq!(web1.request(Purpose::Back, true), PermitDecision::Granted);
    assert_eq!(web1.confirm(Purpose::Back, true), PermitDecision::Granted);
    assert_eq!(fleet.store.calls.get(), before);
}

#[test]
fn no_host_takes_a_slot_of_a_store_that_ignores_conditions() {
    let fleet = fleet(one_slot());
    fleet.store.is_unconditional.set(true);
    for host in [fleet.host(1), fleet.host(2)] {
        let PermitDecision::Wait(why) = request(&host) else {
            panic!("it goes on");
        };
        assert!(why.contains("ignores conditional writes"), "{why}");
        assert!(why.contains("`rollout: none`"), "{why}");
        assert!(!host.is_waiting(), "it will not pass by itself");
    }
    let slot = "slots/production/shop/0.json";
    let keys = fleet.store.inner.list("slots/").unwrap();
    assert!(keys.iter().all(|object| object.key != slot), "{keys:?}");
}

#[test]
fn rollout_ends_without_hosts_that_may_not_write_or_are_pinned() {
    let changes: [fn(&mut NodeRecord); 2] = [
        |record| record.rollouts = Some(false),
        |record| record.apps.get_mut("shop").unwrap().pinned = true,
    ];
    for change in changes {
        let fleet = fleet(one_slot());
        let web1 = fleet.host(1);
        for number in [2, 3] {
            let mut other = record(&format!("web{number}"), number);
            change(&mut other);
            put(&fleet.store.inner, &other);
        }
        deploy(&web1);
        let current = fleet.register();
        let entry = current.current(&sha('1')).unwrap();
        assert_eq!(entry.state(), EntryState::Done, "{:?}", entry.count);
    }
}

#[test]
fn host_that_will_never_take_the_sha_is_no_canary() {
    let changes: [fn(&mut NodeRecord); 3] = [
        |record| record.rollouts = Some(false),
        |record| record.apps.get_mut("shop").unwrap().pinned = true,
        |record| drop(record.tags.insert("zone".into(), "other".into())),
    ];
    for (number, change) in changes.iter().enumerate() {
        let fleet = fleet(RolloutPolicy {
            canary: Some(Canary {
                hosts: CanaryHosts::First(1),
                bake: Duration::ZERO,
            }),
            ..one_slot()
        });
        let manifest = format!(
            "generation: 2\n{ENV}:\n  shop: {{sha: {}, overrides: [{{match: {{zone: other}}, sha: {}}}]}}\n",
            sha('1'),
            sha('0')
        );
        let body = manifest.as_bytes();
        fleet
            .store
            .inner
            .put(KEY, body, WriteCondition::Always)
            .unwrap();
        let mut web1 = record("web1", 1);
        change(&mut web1);
        put(&fleet.store.inner, &web1);
        assert_eq!(request(&fleet.host(2)), PermitDecision::Granted, "{number}");
    }
}

#[test]
fn host_that_lost_its_permission_finds_out_without_a_reboot() {
    let fleet = fleet(one_slot());
    let web1 = fleet.host(1);
    let may_take_part = || may_take_part(&web1.host.root, &fleet.store, ENV).unwrap();
    assert!(may_take_part());
    fleet.store.is_read_only.set(true);
    assert!(matches!(request(&web1), PermitDecision::Wait(_)));
    assert!(!may_take_part());
}

#[test]
fn host_that_may_not_write_finds_out_once_in_a_heartbeat() {
    let fleet = fleet(one_slot());
    let web1 = fleet.host(1);
    fleet.store.is_read_only.set(true);
    let asked = || {
        let before = fleet.store.writes.get();
        (web1.may_write(), fleet.store.writes.get() - before)
    };
    assert_eq!(asked(), (false, 1));
    assert_eq!(asked(), (false, 0), "each pass asks");
    fleet.advance(300);
    assert_eq!(asked(), (false, 1));
    fleet.store.is_read_only.set(false);
    assert_eq!(asked(), (false, 0));
    // It settles what it was granted.
    assert_eq!(request(&web1), PermitDecision::Granted);
    assert!(web1.may_write());
}

#[test]
fn clocks_a_day_off_neither_shorten_a_bake_nor_block_a_rollout() {
    const DAY: i64 = 86_400;
    let fleet = fleet(RolloutPolicy {
        canary: Some(Canary {
            hosts: CanaryHosts::First(1),
            bake: Duration::from_secs(120),
        }),
        ..one_slot()
    });
    let (web1, web2) = (fleet.host(1), fleet.host(2));
    let set_clock = |host: usize, by| fleet.hosts.borrow()[host].clock.advance(by);
    set_clock(1, -DAY);
    assert_eq!(request(&web1), PermitDecision::Granted);
    // Its clock is set back and forth while it bakes: neither counts, but for a minute at most.
    for by in [DAY, -DAY] {
        assert_eq!(settle(&web1, AppPosition::Wanted), Settled::Proving);
        set_clock(0, by);
    }
    assert_eq!(settle(&web1, AppPosition::Wanted), Settled::Proving);
    assert!(matches!(request(&web2), PermitDecision::Wait(_)));
    fleet.advance(60);
    assert_eq!(settle(&web1, AppPosition::Wanted), Settled::Nothing);
    deploy(&web2);
    assert!(fleet.register().current(&sha('1')).unwrap().was_done);
}
