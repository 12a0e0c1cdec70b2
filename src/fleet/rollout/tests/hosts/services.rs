//! Services of which one host at a time is restarted or reloaded.

use super::*;
use crate::fleet::rollout::operator::Operator;
use crate::fleet::rollout::service_slot::ServiceSlot;
use crate::fleet::rollout::store::RolloutStore;
use crate::fleet::rollout::{may_take_slots, service_view};
use crate::ports::permission::ServicePermission;

const SLOTS: &str = "_haproxy";

struct Balancer {
    sandbox: Sandbox,
    slot: ServiceSlot,
}

fn balancer(fleet: &Fleet, node: &str) -> Balancer {
    let sandbox = Sandbox::empty();
    let host = Rc::new(fleet.fleet_host(node.into(), &sandbox));
    let slot = ServiceSlot {
        host,
        name: SLOTS.into(),
        by_hand: false,
    };
    Balancer { sandbox, slot }
}

impl Balancer {
    /// The same host, while its store does not answer.
    fn cut_off(&self, fleet: &Fleet, by_hand: bool) -> ServiceSlot {
        let host = FleetHost {
            is_cut_off: true,
            ..fleet.fleet_host("lb1".into(), &self.sandbox)
        };
        ServiceSlot {
            host: Rc::new(host),
            name: SLOTS.into(),
            by_hand,
        }
    }
}

#[test]
fn hosts_take_turns_with_a_service() {
    let fleet = fleet(one_slot());
    let (lb1, lb2) = (balancer(&fleet, "lb1"), balancer(&fleet, "lb2"));
    lb1.slot.request().unwrap();
    lb1.slot.request().unwrap();
    let why = lb2.slot.request().unwrap_err();
    assert_eq!(
        why,
        "waits for a slot: lb1 has slot 0 of _haproxy; `trueup rollout status production _haproxy` shows more"
    );
    lb1.slot.give_back().unwrap();
    lb2.slot.request().unwrap();
    // It has none any more.
    lb1.slot.give_back().unwrap();
    assert!(lb1.slot.request().is_err());
}

#[test]
fn quiet_pass_asks_the_store_nothing_about_a_service() {
    let fleet = fleet(one_slot());
    let lb1 = balancer(&fleet, "lb1");
    let before = fleet.store.calls.get();
    lb1.slot.give_back().unwrap();
    assert_eq!(fleet.store.calls.get(), before);
}

#[test]
fn during_an_outage_only_an_operator_restarts_a_coordinated_service() {
    let fleet = fleet(one_slot());
    let lb1 = balancer(&fleet, "lb1");
    let before = fleet.store.calls.get();
    let why = lb1.cut_off(&fleet, false).request().unwrap_err();
    assert!(why.contains("the store does not answer"), "{why}");
    lb1.cut_off(&fleet, true).request().unwrap();
    lb1.cut_off(&fleet, true).give_back().unwrap();
    assert_eq!(fleet.store.calls.get(), before);
}

#[test]
fn balancer_that_may_not_write_slots_still_takes_changes() {
    let fleet = fleet(one_slot());
    let lb1 = balancer(&fleet, "lb1");
    fleet.store.is_read_only.set(true);
    lb1.slot.request().unwrap();
    fleet.store.is_read_only.set(false);
    fleet.store.is_unconditional.set(true);
    balancer(&fleet, "lb2").slot.request().unwrap();
}

#[test]
fn balancer_that_was_refused_a_slot_gives_none_back() {
    let fleet = fleet(one_slot());
    for (node, switch) in [
        ("lb1", &fleet.store.is_read_only),
        ("lb2", &fleet.store.is_unconditional),
    ] {
        let balancer = balancer(&fleet, node);
        switch.set(true);
        balancer.slot.request().unwrap();
        let before = fleet.store.calls.get() + fleet.store.writes.get();
        balancer.slot.give_back().unwrap();
        let after = fleet.store.calls.get() + fleet.store.writes.get();
        assert_eq!(after, before, "{node} asks in each quiet pass");
        switch.set(false);
    }
}

#[test]
fn check_of_slots_asks_the_store_now() {
    let fleet = fleet(one_slot());
    balancer(&fleet, "lb1").slot.request().unwrap();
    let may_take_slots = || may_take_slots(&fleet.store, ENV).unwrap();
    assert!(may_take_slots());
    fleet.store.is_read_only.set(true);
    assert!(!may_take_slots());
    fleet.store.is_read_only.set(false);
    fleet.store.is_unconditional.set(true);
    assert!(!may_take_slots());
}

#[test]
fn corrupt_journal_of_a_service_keeps_it_from_going_and_names_the_remedy() {
    let fleet = fleet(one_slot());
    let lb1 = balancer(&fleet, "lb1");
    let path = "/var/lib/trueup/rollouts/_haproxy.json";
    lb1.sandbox.write(path, "{");
    let why = lb1.slot.request().unwrap_err();
    assert!(why.contains(path), "{why}");
    assert!(why.contains("remove it, and free the slot"), "{why}");
}

#[test]
fn slot_of_a_service_that_left_the_roles_is_abandoned() {
    let fleet = fleet(one_slot());
    let (lb1, lb2) = (balancer(&fleet, "lb1"), balancer(&fleet, "lb2"));
    // The journal of an app is none of a service.
    lb1.sandbox
        .write("/var/lib/trueup/rollouts/shop.json", "{}");
    let abandoned = |known: &[&str]| ServiceSlot::abandoned(&lb1.slot.host, known);
    assert!(abandoned(&[]).is_empty());
    lb1.slot.request().unwrap();
    assert!(abandoned(&[SLOTS]).is_empty());
    let slots = abandoned(&["_nginx"]);
    let names: Vec<&str> = slots.iter().map(|slot| slot.name.as_str()).collect();
    assert_eq!(names, [SLOTS]);
    slots[0].give_back().unwrap();
    lb2.slot.request().unwrap();
}

#[test]
fn damaged_slot_of_a_service_keeps_all_from_it() {
    let fleet = fleet(one_slot());
    let key = format!("slots/{ENV}/{SLOTS}/0.json");
    let put = |body: &[u8]| {
        let written = fleet.store.inner.put(&key, body, WriteCondition::Always);
        written.unwrap();
    };
    let lb1 = balancer(&fleet, "lb1");
    for body in [&b"{\"version\": 1"[..], &[b'x'; 20 << 10]] {
        put(body);
        let why = lb1.slot.request().unwrap_err();
        assert!(why.contains(&key) && why.contains("find out who"), "{why}");
    }
}

#[test]
fn operator_frees_the_service_of_a_host_that_is_gone() {
    let fleet = fleet(one_slot());
    let (lb1, lb2) = (balancer(&fleet, "lb1"), balancer(&fleet, "lb2"));
    lb1.slot.request().unwrap();
    let objects = lb2.slot.host.objects(SLOTS, None, false);
    let view = service_view(&objects, ENV, SLOTS).unwrap();
    assert_eq!(view.holders[0].holder.member.node, "lb1");
    let operator = Operator {
        store: &objects,
        environment: ENV,
        app: SLOTS,
        name: "ana",
        reason: "its disk died",
        now: lb2.slot.host.clock.now(),
        sign: None,
    };
    let nonce = objects.slot(0).unwrap().unwrap().object.nonce;
    operator.break_slot(0, nonce, None).unwrap();
    lb2.slot.request().unwrap();
    // It is back, and finds its slot broken.
    assert!(lb1.slot.request().is_err());
    let acts = service_view(&objects, ENV, SLOTS).unwrap().acts;
    assert_eq!(acts[0].what, "break-slot 0 of lb1");
}
