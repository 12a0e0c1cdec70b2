//! Who sends: exactly one host while all live, and some host if one is killed at any step.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::*;
use crate::notify::deliver::{Delivery, DeliveryStep};
use crate::ports::clock::Clock;
use crate::ports::store::double::StoreDouble;
use crate::ports::store::{
    Etag, GetOutcome, MemoryStore, PutOutcome, Store, StoreError, WriteCondition,
};
use crate::ports::testing::FakeClock;

/// What befalls a host at one of its steps.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// It is killed before the step takes effect, or after.
    KilledBefore,
    KilledAfter,
    /// The step takes effect, but the host learns nothing of it.
    LostReply,
    /// Another host runs before the step.
    Overtaken,
    /// It stands still for a minute and a half after the step, while another host runs.
    Suspended,
}

const KILLS: [Fault; 2] = [Fault::KilledBefore, Fault::KilledAfter];

/// The hosts, their store, and what reached the channel.
struct Fleet {
    store: MemoryStore,
    clock: FakeClock,
    sent: RefCell<Vec<String>>,
    saved: [RefCell<AppMemory>; 2],
    steps: Cell<usize>,
    /// The number of the step that sends.
    send_step: Cell<usize>,
    numbers: Cell<u64>,
}

/// The store as a host with a fault reaches it.
struct Faulty<'f> {
    fleet: &'f Fleet,
    fault: Option<(Fault, usize)>,
}

impl Fleet {
    fn new() -> Fleet {
        let clock = FakeClock::default();
        let store = MemoryStore::new();
        store.set_server_time(clock.now());
        let memory = |is_own| RefCell::new(memory_with(&halted(), is_own, clock.now()));
        Fleet {
            saved: [memory(true), memory(false)],
            store,
            clock: clock.clone(),
            sent: RefCell::default(),
            steps: Cell::new(0),
            send_step: Cell::new(0),
            numbers: Cell::new(0),
        }
    }

    fn advance(&self, seconds: i64) {
        self.clock.advance(seconds);
        self.store.set_server_time(self.clock.now());
    }

    /// A pass of a host. One that is killed keeps what it has saved.
    fn run(&self, host: usize, fault: Option<(Fault, usize)>) {
        let faulty = Faulty { fleet: self, fault };
        self.steps.set(0);
        let pass = AssertUnwindSafe(|| {
            let mut memory = self.saved[host].borrow().clone();
            let random = || {
                self.numbers.set(self.numbers.get() + 1);
                self.numbers.get()
            };
            let mut send = |channel: &str, notice: &Notice| {
                self.send_step.set(self.steps.get());
                let deliver = || {
                    self.sent
                        .borrow_mut()
                        .push(format!("{channel} {}", notice.id))
                };
                match faulty.step(deliver) {
                    Ok(()) => DeliveryStep::Sent,
                    Err(_) => DeliveryStep::Failed,
                }
            };
            let mut save = |memory: &AppMemory| {
                let _ = faulty.step(|| self.saved[host].replace(memory.clone()));
            };
            let mut delivery = Delivery {
                store: &faulty,
                environment: "production",
                app: "shop",
                node: if host == 0 { "web1" } else { "web2" },
                clock: &self.clock,
                random: &random,
                is_ready: &|_| true,
                send: &mut send,
                save: &mut save,
            };
            let _ = delivery.run(&mut memory);
        });
        if let Err(payload) = catch_unwind(pass)
            && payload.downcast_ref::<Fault>().is_none()
        {
            resume_unwind(payload);
        }
    }

    /// All hosts of these make their passes for five minutes.
    fn pass_minutes(&self, hosts: &[usize]) {
        for _ in 0..20 {
            self.advance(15);
            hosts.iter().for_each(|host| self.run(*host, None));
        }
    }

    fn sent(&self) -> usize {
        self.sent.borrow().len()
    }
}

impl Faulty<'_> {
    fn step<T>(&self, effect: impl FnOnce() -> T) -> Result<T, StoreError> {
        let number = self.fleet.steps.get();
        self.fleet.steps.set(number + 1);
        let fault = self
            .fault
            .filter(|(_, at)| *at == number)
            .map(|(fault, _)| fault);
        match fault {
            None => Ok(effect()),
            Some(fault @ Fault::KilledBefore) => resume_unwind(Box::new(fault)),
            Some(fault @ Fault::KilledAfter) => {
                effect();
                resume_unwind(Box::new(fault))
            }
            Some(Fault::LostReply) => {
                effect();
                Err(StoreError::Unreachable {
                    store: "memory:".into(),
                    why: "the reply was lost".into(),
                    hint: "",
                })
            }
            Some(Fault::Overtaken) => {
                self.fleet.advance(40);
                self.let_the_other_run(number);
                Ok(effect())
            }
            Some(Fault::Suspended) => {
                let done = effect();
                self.fleet.advance(90);
                self.let_the_other_run(number);
                Ok(done)
            }
        }
    }

    fn let_the_other_run(&self, number: usize) {
        self.fleet.run(1, None);
        self.fleet.steps.set(number + 1);
    }
}

impl StoreDouble for Faulty<'_> {
    fn inner(&self) -> &dyn Store {
        &self.fleet.store
    }

    fn get(&self, key: &str, known: Option<&Etag>) -> Result<GetOutcome, StoreError> {
        self.step(|| self.fleet.store.get(key, known))?
    }

    fn put(
        &self,
        key: &str,
        body: &[u8],
        when: WriteCondition<'_>,
    ) -> Result<PutOutcome, StoreError> {
        self.step(|| self.fleet.store.put(key, body, when))?
    }
}

/// How many steps the pass has in which a host claims, sends and marks, and which of them sends.
fn steps() -> (usize, usize) {
    let fleet = Fleet::new();
    fleet.run(0, None);
    assert_eq!(fleet.sent(), 1);
    (fleet.steps.get(), fleet.send_step.get())
}

#[test]
fn one_host_sends_for_all() {
    let fleet = Fleet::new();
    fleet.pass_minutes(&[1, 0]);
    assert_eq!(*fleet.sent.borrow(), ["ops halted:9999999:43"]);
    assert!(
        fleet
            .saved
            .iter()
            .all(|saved| saved.borrow().pending.is_empty())
    );
}

#[test]
fn host_that_brought_it_about_sends_first() {
    let fleet = Fleet::new();
    fleet.run(1, None);
    assert_eq!(fleet.sent(), 0);
    fleet.run(0, None);
    assert_eq!(fleet.sent(), 1);
}

#[test]
fn killed_sender_is_followed_by_another_host() {
    for fault in KILLS {
        for step in 0..steps().0 {
            let fleet = Fleet::new();
            fleet.run(0, Some((fault, step)));
            fleet.pass_minutes(&[1]);
            assert!(
                (1..=2).contains(&fleet.sent()),
                "{fault:?} {step}: {:?}",
                fleet.sent
            );
        }
    }
}

#[test]
fn killed_sender_goes_on_when_it_is_the_only_host() {
    for fault in KILLS {
        for step in 0..steps().0 {
            let fleet = Fleet::new();
            fleet.run(0, Some((fault, step)));
            fleet.pass_minutes(&[0]);
            assert!(
                (1..=2).contains(&fleet.sent()),
                "{fault:?} {step}: {:?}",
                fleet.sent
            );
        }
    }
}

#[test]
fn nothing_is_doubled_while_all_hosts_live() {
    for fault in [Fault::LostReply, Fault::Overtaken] {
        for step in 0..steps().0 {
            let fleet = Fleet::new();
            fleet.run(0, Some((fault, step)));
            fleet.pass_minutes(&[1, 0]);
            let sent = fleet.sent();
            // A channel whose reply was lost is tried again: that it took the message is not known.
            let is_send = step == steps().1;
            let most = if fault == Fault::LostReply && is_send {
                2
            } else {
                1
            };
            assert!(
                (1..=most).contains(&sent),
                "{fault:?} {step}: {:?}",
                fleet.sent
            );
        }
    }
}

#[test]
fn suspended_sender_does_not_use_a_claim_that_another_host_took() {
    for step in 0..steps().1 {
        let fleet = Fleet::new();
        fleet.run(0, Some((Fault::Suspended, step)));
        fleet.pass_minutes(&[1, 0]);
        assert_eq!(fleet.sent(), 1, "{step}: {:?}", fleet.sent);
    }
}

#[test]
fn publication_is_sent_once_whoever_still_knows_its_generation() {
    let fleet = Fleet::new();
    for (host, id) in [(0, "published:9999999:43"), (1, "published:9999999:u")] {
        let mut notice = halted();
        notice.id = id.into();
        notice.transition = Transition::Published;
        fleet.saved[host].replace(memory_with(&notice, host == 0, fleet.clock.now()));
    }
    fleet.pass_minutes(&[0, 1]);
    assert_eq!(*fleet.sent.borrow(), ["ops published:9999999:43"]);
}
