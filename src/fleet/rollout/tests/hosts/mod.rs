//! Hosts of a fleet with their disks, and a store in memory: what each may do, and what it owes after a pass.

mod faults;
mod holds;
mod local_failures;
mod restarts;
mod services;
mod several_shas;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::sha;
use crate::desired::{Amount, Canary, CanaryHosts, OnFailure, RolloutPolicy};
use crate::fleet::rollout::fleet_host::FleetHost;
use crate::fleet::rollout::host_rollout::HostRollout;
use crate::fleet::rollout::identity::Member;
use crate::fleet::rollout::observer::RegisterObserver;
use crate::fleet::rollout::polling::Polling;
use crate::fleet::rollout::register::{Register, WantedShas};
use crate::fleet::rollout::settle::{AppPosition, Settled};
use crate::fleet::tests::{ENV, put, record};
use crate::ports::permission::{Permission, PermitDecision, Purpose};
use crate::ports::store::double::StoreDouble;
use crate::ports::store::{GetOutcome, MemoryStore, PutOutcome, Store, StoreError, WriteCondition};
use crate::ports::testing::Sandbox;
use crate::settings::FleetSettings;

const KEY: &str = "sha_number.yml";

/// A store in memory that counts what it is asked, and refuses writes or ignores their conditions if told to.
#[derive(Clone, Default)]
struct CountingStore {
    inner: MemoryStore,
    calls: Rc<Cell<usize>>,
    writes: Rc<Cell<usize>>,
    is_read_only: Rc<Cell<bool>>,
    is_unconditional: Rc<Cell<bool>>,
}

impl StoreDouble for CountingStore {
    fn inner(&self) -> &dyn Store {
        self.calls.set(self.calls.get() + 1);
        &self.inner
    }

    fn put(
        &self,
        key: &str,
        body: &[u8],
        when: WriteCondition<'_>,
    ) -> Result<PutOutcome, StoreError> {
        self.writes.set(self.writes.get() + 1);
        match self.is_read_only.get() {
            true => Err(StoreError::Refused {
                store: "memory:".into(),
                key: key.into(),
                why: "AccessDenied".into(),
                hint: "",
            }),
            false if self.is_unconditional.get() => {
                self.inner().put(key, body, WriteCondition::Always)
            }
            false => self.inner().put(key, body, when),
        }
    }
}

/// Hosts web1, web2… that serve the sha `0` of `shop`; the manifest wants `1`.
struct Fleet {
    store: CountingStore,
    policy: RolloutPolicy,
    hosts: RefCell<Vec<Sandbox>>,
}

fn fleet(policy: RolloutPolicy) -> Fleet {
    let store = CountingStore::default();
    let text = format!(
        "generation: 2\n{ENV}:\n  shop: {}\n  cart: {}\n",
        sha('1'),
        sha('5')
    );
    let body = text.as_bytes();
    store.inner.put(KEY, body, WriteCondition::Always).unwrap();
    Fleet {
        store,
        policy,
        hosts: RefCell::default(),
    }
}

fn one_slot() -> RolloutPolicy {
    RolloutPolicy {
        max_unavailable: Amount::Count(1),
        ..RolloutPolicy::default()
    }
}

impl Fleet {
    fn host(&self, number: u8) -> HostRollout {
        let node = format!("web{number}");
        put(&self.store.inner, &record(&node, number));
        let sandbox = Sandbox::empty();
        let host = self.rollout_of("shop", '1', node, &sandbox);
        self.hosts.borrow_mut().push(sandbox);
        host
    }

    fn fleet_host(&self, node: String, on: &Sandbox) -> FleetHost {
        FleetHost {
            root: on.host.root.clone(),
            clock: on.host.clock.clone(),
            store: Rc::new(self.store.clone()),
            store_name: "memory:".into(),
            manifest_key: KEY.into(),
            fleet: FleetSettings::default(),
            signers: None,
            environment: ENV.into(),
            member: Member {
                machine: node.clone(),
                node,
            },
            is_cut_off: false,
        }
    }

    fn rollout_of(&self, app: &str, wanted: char, node: String, on: &Sandbox) -> HostRollout {
        HostRollout {
            host: Rc::new(self.fleet_host(node, on)),
            app: app.into(),
            policy: self.policy.clone(),
            sha: sha(wanted),
            wanted: WantedShas {
                generation: 2,
                shas: vec![sha(wanted)],
                hold: None,
            },
            group: None,
            ignores_hold: false,
            looked_at: Cell::default(),
            denied: Cell::default(),
            polling: Polling::at(0),
            observer: RegisterObserver::default(),
        }
    }

    fn register(&self) -> Register {
        let key = format!("rollouts/{ENV}/shop.json");
        let GetOutcome::Object(found) = self.store.inner.get(&key, None).unwrap() else {
            panic!("there is no register");
        };
        serde_json::from_slice(&found.body).unwrap()
    }

    fn advance(&self, seconds: i64) {
        for sandbox in self.hosts.borrow().iter() {
            sandbox.clock.advance(seconds);
        }
    }
}

fn request(host: &HostRollout) -> PermitDecision {
    host.request(Purpose::Deploy, true)
}

fn wait(why: &str) -> PermitDecision {
    PermitDecision::Wait(why.into())
}

fn settle(host: &HostRollout, position: AppPosition) -> Settled {
    host.settle(position, &|| true).unwrap()
}

/// The host takes the wanted sha, and proves it.
fn deploy(host: &HostRollout) {
    assert_eq!(request(host), PermitDecision::Granted);
    assert_eq!(settle(host, AppPosition::Wanted), Settled::Nothing);
}

/// The host takes the wanted sha, which fails there, and goes back.
fn fail(host: &HostRollout) {
    assert_eq!(request(host), PermitDecision::Granted);
    host.note_failure("it answered 500", "").unwrap();
    assert_eq!(settle(host, AppPosition::Other), Settled::Nothing);
}

#[test]
fn next_host_goes_once_the_one_before_is_proven() {
    let fleet = fleet(one_slot());
    let (web1, web2) = (fleet.host(1), fleet.host(2));
    assert_eq!(request(&web1), PermitDecision::Granted);
    let busy = wait("waits for a slot: web1 has slot 0");
    assert_eq!(web2.peek(Purpose::Deploy, true), busy);
    assert_eq!(request(&web2), busy);
    assert!(web2.is_waiting() && !web2.ends_wait());
    settle(&web1, AppPosition::Wanted);
    assert!(web2.ends_wait());
    deploy(&web2);
    assert!(fleet.register().current(&sha('1')).unwrap().was_done);
}

#[test]
fn quiet_host_asks_the_store_nothing_once_the_rollout_is_over() {
    let fleet = fleet(one_slot());
    let web1 = fleet.host(1);
    deploy(&web1);
    let before = fleet.store.calls.get();
    let never = || panic!("nobody waits for its health");
    assert_eq!(
        web1.settle(AppPosition::Wanted, &never).unwrap(),
        Settled::Over { restarted: None }
    );
    assert_eq!(web1.instead(AppPosition::Wanted, &sha('0')).unwrap(), None);
    assert_eq!(fleet.store.calls.get(), before);
}

#[test]
fn slot_stays_held_until_the_host_was_healthy_for_min_ready() {
    let fleet = fleet(RolloutPolicy {
        min_ready: Duration::from_secs(10),
        ..one_slot()
    });
    let (web1, web2) = (fleet.host(1), fleet.host(2));
    assert_eq!(request(&web1), PermitDecision::Granted);
    assert_eq!(settle(&web1, AppPosition::Wanted), Settled::Proving);
    fleet.advance(9);
    assert_eq!(settle(&web1, AppPosition::Wanted), Settled::Proving);
    assert!(matches!(request(&web2), PermitDecision::Wait(_)));
    fleet.advance(1);
    assert_eq!(settle(&web1, AppPosition::Wanted), Settled::Nothing);
    assert_eq!(request(&web2), PermitDecision::Granted);
}

#[test]
fn failed_sha_is_refused_everywhere_until_an_operator_lifts_it() {
    let fleet = fleet(one_slot());
    let (web1, web2) = (fleet.host(1), fleet.host(2));
    fail(&web1);
    let refused = PermitDecision::Refused("it failed on web1: it answered 500".into());
    assert_eq!(request(&web2), refused);
    assert_eq!(web1.follow_lift().unwrap(), None);
    assert!(web2.lift_quarantine("ana", "the disk was full").unwrap());
    let lift = ("ana".to_owned(), "the disk was full".to_owned());
    assert_eq!(web1.follow_lift().unwrap(), Some(lift));
    assert_eq!(web1.follow_lift().unwrap(), None, "it follows once");
    deploy(&web2);
    deploy(&web1);
}

#[test]
fn failure_of_the_release_before_halts_and_quarantines_nothing() {
    let fleet = fleet(one_slot());
    let (web1, web2) = (fleet.host(1), fleet.host(2));
    assert_eq!(request(&web1), PermitDecision::Granted);
    web1.note_failure("no database", "").unwrap();
    assert_eq!(settle(&web1, AppPosition::Unproven), Settled::Environment);
    let PermitDecision::Wait(why) = request(&web2) else {
        panic!("it goes on");
    };
    assert!(
        why.contains("`trueup rollout resume production shop --reason TEXT`"),
        "{why}"
    );
    assert!(!web2.is_waiting(), "no host makes that go away");
    assert!(
        !web2.lift_quarantine("ana", "").unwrap(),
        "nothing is quarantined"
    );
}

#[test]
fn bake_counts_proofs_and_no_time_without_them() {
    let fleet = fleet(RolloutPolicy {
        canary: Some(Canary {
            hosts: CanaryHosts::First(1),
            bake: Duration::from_secs(100),
        }),
        ..one_slot()
    });
    let (web1, web2) = (fleet.host(1), fleet.host(2));
    assert_eq!(request(&web2), wait("waits for the canary web1"));
    assert_eq!(request(&web1), PermitDecision::Granted);
    assert_eq!(settle(&web1, AppPosition::Wanted), Settled::Proving);
    fleet.advance(30);
    assert_eq!(settle(&web1, AppPosition::Wanted), Settled::Proving);
    // A machine that was suspended for an hour.
    fleet.advance(3600);
    assert_eq!(settle(&web1, AppPosition::Wanted), Settled::Proving);
    assert_eq!(
        web1.settle(AppPosition::Wanted, &|| false).unwrap(),
        Settled::Proving
    );
    fleet.advance(60);
    assert_eq!(
        settle(&web1, AppPosition::Wanted),
        Settled::Proving,
        "it begins again"
    );
    for _ in 0..2 {
        assert!(matches!(request(&web2), PermitDecision::Wait(_)));
        fleet.advance(60);
        settle(&web1, AppPosition::Wanted);
    }
    assert_eq!(request(&web2), PermitDecision::Granted);
}

#[test]
fn new_host_takes_what_served_before_unless_that_is_quarantined() {
    let fleet = fleet(one_slot());
    let (web1, new) = (fleet.host(1), fleet.host(2));
    assert_eq!(request(&web1), PermitDecision::Granted);
    let why = new.instead(AppPosition::Absent, &sha('0')).unwrap();
    assert!(why.unwrap().contains("until a host that serves has shown"));
    settle(&web1, AppPosition::Wanted);
    assert_eq!(new.instead(AppPosition::Absent, &sha('0')).unwrap(), None);
    assert_eq!(new.request(Purpose::Deploy, false), PermitDecision::Granted);
}

#[test]
fn new_host_without_a_sha_from_before_waits_for_a_proof() {
    let fleet = fleet(one_slot());
    let (web1, new) = (fleet.host(1), fleet.host(2));
    assert_eq!(request(&web1), PermitDecision::Granted);
    let ask = || new.request(Purpose::Deploy, false);
    let why = "waits until a host that serves has shown that the sha works";
    assert_eq!(ask(), wait(why));
    assert!(new.is_waiting());
    settle(&web1, AppPosition::Wanted);
    assert_eq!(ask(), PermitDecision::Granted);
}

#[test]
fn proven_hosts_go_back_if_the_policy_says_so() {
    for (on_failure, goes_back) in [(OnFailure::Rollback, true), (OnFailure::Halt, false)] {
        let fleet = fleet(RolloutPolicy {
            on_failure,
            ..one_slot()
        });
        let (web1, web2) = (fleet.host(1), fleet.host(2));
        deploy(&web1);
        assert_eq!(web1.instead(AppPosition::Wanted, &sha('0')).unwrap(), None);
        fail(&web2);
        for position in [AppPosition::Wanted, AppPosition::Unproven] {
            let why = web1.instead(position, &sha('0')).unwrap();
            assert_eq!(why.is_some(), goes_back, "{on_failure:?} {position:?}");
        }
        // A host that goes back takes a slot as well.
        assert_eq!(web1.request(Purpose::Back, true), PermitDecision::Granted);
        assert!(matches!(
            web2.request(Purpose::Back, true),
            PermitDecision::Wait(_)
        ));
    }
}

#[test]
fn hosts_of_two_groups_are_never_out_together() {
    let fleet = fleet(RolloutPolicy {
        max_unavailable: Amount::Count(2),
        per: Some("zone".into()),
        ..RolloutPolicy::default()
    });
    let in_zone = |number, zone: &str| HostRollout {
        group: Some(zone.into()),
        ..fleet.host(number)
    };
    let (a1, a2, b1) = (in_zone(1, "a"), in_zone(2, "a"), in_zone(3, "b"));
    assert_eq!(request(&a1), PermitDecision::Granted);
    assert_eq!(request(&b1), wait("waits for web1, of the group a"));
    assert_eq!(request(&a2), PermitDecision::Granted);
    settle(&a1, AppPosition::Wanted);
    settle(&a2, AppPosition::Wanted);
    assert_eq!(request(&b1), PermitDecision::Granted);
}

#[test]
fn app_waits_for_those_that_come_before_it() {
    let fleet = fleet(one_slot());
    let web1 = fleet.host(1);
    let sandbox = Sandbox::empty();
    let mut cart = fleet.rollout_of("cart", '5', "web1".into(), &sandbox);
    cart.policy.after = vec!["shop".into()];
    let PermitDecision::Wait(why) = request(&cart) else {
        panic!("it goes first");
    };
    assert_eq!(why, "waits for shop, which is not done");
    deploy(&web1);
    assert_eq!(request(&cart), PermitDecision::Granted);
}
