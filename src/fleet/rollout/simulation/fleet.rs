//! The fleet that is simulated: its size and policy, what is in its bucket at the beginning, and what is watched.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::bucket::Bucket;
use super::timeline::VirtualClock;
use crate::desired::{RolloutPolicy, Sha};
use crate::exit::Exit;
use crate::fleet::rollout::counted::Counted;
use crate::fleet::rollout::entry::HostCount;
use crate::fleet::rollout::identity::{Member, Nonce};
use crate::fleet::rollout::journal::{Ended, Journal};
use crate::fleet::rollout::object::encode;
use crate::fleet::rollout::objects::register_key;
use crate::fleet::rollout::register::{Opener, Register, WantedShas};
use crate::fleet::rollout::slot::Slot;
use crate::fleet::{self, AppRecord, LastPass, NodeRecord, ServingState, record_key};
use crate::ports::root::Root;

pub(super) const ENVIRONMENT: &str = "production";
pub(super) const APP: &str = "shop";
pub(super) const MANIFEST: &str = "sha_number.yml";

/// From the end of a pass to the next one.
pub(super) const TICK: Duration = Duration::from_secs(30);

/// What all hosts share.
pub(super) struct Fleet {
    pub hosts: u32,
    pub policy: RolloutPolicy,
    pub clock: VirtualClock,
    pub bucket: Rc<Bucket>,
    /// For what each host keeps until its next boot: that the bucket honours conditions.
    pub root: Root,
    pub old: Sha,
    pub new: Sha,
    out: Cell<u32>,
    pub most_out: Cell<u32>,
    pub switched: Cell<u32>,
    pub last_switched: Cell<Duration>,
    pub errors: Cell<u64>,
    pub last_error: RefCell<String>,
    pub is_over: Cell<bool>,
}

impl Fleet {
    /// A fleet on which an earlier rollout has ended.
    pub(super) fn new(
        hosts: u32,
        policy: RolloutPolicy,
        folder: &Path,
        clock: &VirtualClock,
    ) -> Fleet {
        let sha = |digit: &str| Sha::parse(&digit.repeat(40)).expect("it is a sha");
        let fleet = Fleet {
            hosts,
            policy,
            clock: clock.clone(),
            bucket: Rc::new(Bucket::new(clock)),
            root: Root::at(folder).expect("the folder is there"),
            old: sha("0"),
            new: sha("1"),
            out: Cell::default(),
            most_out: Cell::default(),
            switched: Cell::default(),
            last_switched: Cell::default(),
            errors: Cell::default(),
            last_error: RefCell::default(),
            is_over: Cell::default(),
        };
        fleet.publish(1, &fleet.old);
        for number in 0..hosts {
            let node = fleet.member(number).node;
            let record = fleet.record(&node).to_json();
            fleet
                .bucket
                .insert(&record_key(ENVIRONMENT, &node), &record);
            let mark = format!("at/{ENVIRONMENT}/{APP}/{}/{node}", fleet.old);
            fleet.bucket.insert(&mark, b"");
        }
        let register = encode(&fleet.first_register());
        fleet
            .bucket
            .insert(&register_key(ENVIRONMENT, APP), &register);
        fleet
    }

    pub(super) fn slots(&self) -> u32 {
        let slots = self.policy.max_unavailable.of(self.hosts as usize);
        u32::try_from(slots).unwrap_or(u32::MAX).min(self.hosts)
    }

    pub(super) fn publish(&self, generation: u64, sha: &Sha) {
        let text = format!("generation: {generation}\n{ENVIRONMENT}:\n  {APP}: {sha}\n");
        self.bucket.insert(MANIFEST, text.as_bytes());
    }

    pub(super) fn wanted_before(&self) -> WantedShas {
        WantedShas {
            generation: 1,
            shas: vec![self.old.clone()],
            hold: None,
        }
    }

    fn first_register(&self) -> Register {
        let mut register = Register::new(ENVIRONMENT, APP);
        let opener = Opener {
            node: "ip-10-0-0-0",
            at: self.clock.now(),
        };
        register.open(&self.old, &self.wanted_before(), opener);
        let id = register.entries[0].id.clone();
        let counted = Counted {
            count: HostCount {
                hosts: self.hosts,
                serving: self.hosts,
            },
            slots: self.slots(),
            canaries: Ok(Vec::new()),
            gone_canaries: Vec::new(),
        };
        register.count(&id, &counted, opener.node);
        register.set_proven(&id);
        register.set_done(&id);
        register.nonce = Nonce(1);
        register
    }

    /// What a host remembers of the earlier rollout.
    pub(super) fn first_journal(&self) -> Journal {
        Journal {
            mark: Some(self.old.clone()),
            is_marked: true,
            ended: Some(Ended {
                sha: self.old.clone(),
                generation: 1,
            }),
            ..Journal::default()
        }
    }

    /// Named as the instances of AWS are.
    pub(super) fn member(&self, number: u32) -> Member {
        Member {
            node: format!("ip-10-0-{}-{}", number / 250, number % 250),
            machine: format!("{number:032x}"),
        }
    }

    pub(super) fn record(&self, node: &str) -> NodeRecord {
        let app = AppRecord {
            wanted: Some(self.old.clone()),
            actual: Some(self.old.clone()),
            state: ServingState::Serving,
            served: false,
            pinned: false,
            outcome: None,
            since: Some(self.clock.now()),
            why: None,
        };
        NodeRecord {
            version: fleet::VERSION,
            node: node.to_owned(),
            environment: ENVIRONMENT.to_owned(),
            machine_id: None,
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            roles: vec!["app".to_owned()],
            tags: [("zone".to_owned(), "eu-west-1a".to_owned())].into(),
            addresses: Vec::new(),
            ports: [("http".to_owned(), 80)].into(),
            apps: [(APP.to_owned(), app)].into(),
            generation: Some(1),
            last_pass: LastPass {
                at: self.clock.now(),
                outcome: Exit::Converged,
                why: None,
            },
            rollouts: Some(true),
            recipient: None,
            takes_policy: false,
            heartbeat_s: None,
        }
    }

    /// The register now.
    pub(super) fn register(&self) -> Register {
        let found = self.bucket.peek(&register_key(ENVIRONMENT, APP));
        let body = found.expect("it was placed").body;
        serde_json::from_slice(&body).expect("hosts write valid registers")
    }

    pub(super) fn is_done(&self) -> bool {
        let register = self.register();
        register
            .current(&self.new)
            .is_some_and(|entry| entry.was_done)
    }

    pub(super) fn held_slots(&self) -> usize {
        let bodies = self.bucket.bodies(&format!("slots/{ENVIRONMENT}/{APP}/"));
        let slots = bodies.iter().map(|body| serde_json::from_slice(body));
        let slots = slots.map(|slot: serde_json::Result<Slot>| slot.expect("a valid slot"));
        slots.filter(|slot| slot.holder.is_some()).count()
    }

    /// A host goes out of service.
    pub(super) fn take_out(&self) {
        self.out.set(self.out.get() + 1);
        self.most_out.set(self.most_out.get().max(self.out.get()));
    }

    pub(super) fn bring_back(&self) {
        self.out.set(self.out.get() - 1);
    }

    pub(super) fn count_switched(&self) {
        self.switched.set(self.switched.get() + 1);
        self.last_switched.set(self.clock.elapsed());
    }

    pub(super) fn count_error(&self, what: impl std::fmt::Display) {
        self.errors.set(self.errors.get() + 1);
        self.last_error.replace(what.to_string());
    }
}
