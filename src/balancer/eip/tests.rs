//! Claims against EC2 in memory, with its faults and with a host that is the master no longer.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::balancer::claim::ClaimResult;
use crate::balancer::state::{self, State};
use crate::ports::clock::Clock;
use crate::ports::ec2::fake::{FakeEc2, Fault, OTHER_INTERFACE, THIS_INTERFACE};
use crate::ports::testing::Sandbox;

const WRITES: [&str; 2] = ["AssociateAddress", "AssignPrivateIpAddresses"];

struct Bench {
    sandbox: Sandbox,
    ec2: FakeEc2,
    address: MovingAddress,
}

impl Bench {
    fn new(ec2: FakeEc2) -> Bench {
        let sandbox = Sandbox::with_base_system();
        let address = "eipalloc-0a".parse().unwrap();
        // Every call takes a second.
        let clock = sandbox.clock.clone();
        ec2.on_call
            .replace(Some(Box::new(move |_| clock.advance(1))));
        Bench {
            sandbox,
            ec2,
            address,
        }
    }

    fn record(&self, state: State) {
        let host = &self.sandbox.host;
        state::record(&host.root, "web", state, host.clock.now()).unwrap();
    }

    fn claim(&self) -> Result<ClaimOutcome, ClaimError> {
        self.record(State::Master);
        let host = &self.sandbox.host;
        let master = state::read(&host.root, "web").unwrap().unwrap();
        let wish = Claim {
            address: &self.address,
            private_address: None,
            mastership: Some(("web", master)),
            started: host.clock.monotonic_now(),
            timeout: Duration::from_secs(8),
        };
        let this = self.ec2.this_instance().unwrap();
        claim(
            &host.root,
            &*host.clock,
            &host.stop,
            &self.ec2,
            &this,
            &wish,
        )
    }

    fn writes(&self) -> usize {
        let calls = self.ec2.calls.borrow();
        calls.iter().filter(|call| WRITES.contains(call)).count()
    }

    fn holder(&self) -> String {
        self.ec2.holder.borrow().as_ref().unwrap().to_string()
    }

    /// Records this state at the beginning of that call.
    fn record_in_call(&self, number: usize, states: &'static [State]) {
        let root = Rc::clone(&self.sandbox.host.root);
        let clock = self.sandbox.clock.clone();
        self.ec2.on_call.replace(Some(Box::new(move |call| {
            clock.advance(1);
            for state in states.iter().filter(|_| call == number) {
                state::record(&root, "web", *state, clock.now()).unwrap();
            }
        })));
    }
}

#[test]
fn claim_moves_the_address_once_and_waits_for_the_confirmation() {
    for address in ["eipalloc-0a", "10.0.0.5"] {
        let mut bench = Bench::new(FakeEc2::new());
        bench.address = address.parse().unwrap();
        // EC2 shows the change late.
        bench.ec2.lag.set(3);
        let outcome = bench.claim().unwrap();
        assert_eq!(outcome.attempts, 1);
        assert_eq!(outcome.before.as_deref(), Some("i-0b (eni-0b)"));
        assert_eq!(
            (bench.holder().as_str(), bench.writes()),
            (THIS_INTERFACE, 1)
        );
    }
}

#[test]
fn claim_of_an_address_that_is_here_writes_nothing() {
    let bench = Bench::new(FakeEc2::new());
    bench.claim().unwrap();
    let again = bench.claim().unwrap();
    assert_eq!((again.attempts, again.before, bench.writes()), (0, None, 1));
}

#[test]
fn address_that_only_seems_to_be_here_is_claimed() {
    let bench = Bench::new(FakeEc2::new());
    bench.claim().unwrap();
    // Another host has claimed it, and EC2 shows that late.
    let other = OTHER_INTERFACE.parse().ok();
    bench.ec2.show_late(other, 1);
    assert_eq!(bench.claim().unwrap().attempts, 1);
    assert_eq!(
        (bench.holder().as_str(), bench.writes()),
        (THIS_INTERFACE, 2)
    );
}

#[test]
fn throttled_or_late_api_is_asked_until_it_confirms() {
    use Fault::{AnswerLost, None, Throttled};
    for (faults, writes) in [
        (vec![Throttled, None], 1),
        (vec![None, Throttled, Throttled, Throttled], 3),
        (vec![None, AnswerLost], 1),
        (vec![None, None, Throttled, Throttled], 1),
    ] {
        let bench = Bench::new(FakeEc2::with_faults(faults.clone()));
        bench.claim().unwrap();
        assert_eq!(bench.holder(), THIS_INTERFACE, "{faults:?}");
        assert_eq!(bench.writes(), writes, "{faults:?}");
    }
}

#[test]
fn refused_claim_names_the_permission_and_is_not_repeated() {
    use Fault::{None, Unauthorized};
    for (faults, permission) in [
        (vec![Unauthorized], "ec2:DescribeAddresses"),
        (vec![None, Unauthorized], "ec2:AssociateAddress"),
    ] {
        let bench = Bench::new(FakeEc2::with_faults(faults));
        let calls = permission.len();
        let error = bench.claim().unwrap_err();
        assert!(matches!(error, ClaimError::Failed(_)), "{error:?}");
        let hint = error.problem().hint.clone().unwrap();
        assert!(hint.contains(permission), "{hint}");
        assert!(bench.ec2.calls.borrow().len() < calls);
    }
}

#[test]
fn claim_ends_at_its_timeout_with_the_last_error() {
    let bench = Bench::new(FakeEc2::with_faults([Fault::Throttled; 50]));
    let ClaimError::TimedOut(problem) = bench.claim().unwrap_err() else {
        panic!("not timed out");
    };
    assert!(
        problem.message.contains("not claimed within 8 s"),
        "{problem}"
    );
    assert!(
        problem.message.contains("RequestLimitExceeded"),
        "{problem}"
    );
    assert_eq!(bench.holder(), OTHER_INTERFACE);
}

#[test]
fn master_that_lost_its_claim_to_another_does_not_claim_again() {
    let bench = Bench::new(FakeEc2::new());
    // EC2 accepts the claim, and the other host claims right after it.
    let clock = bench.sandbox.clock.clone();
    let ec2 = Rc::new(FakeEc2::new());
    ec2.faults.borrow_mut().extend([Fault::None; 2]);
    let hook = Rc::downgrade(&ec2);
    ec2.on_call.replace(Some(Box::new(move |call| {
        clock.advance(1);
        if call == 3 {
            let other = OTHER_INTERFACE.parse().ok();
            hook.upgrade().unwrap().holder.replace(other);
        }
    })));
    bench.record(State::Master);
    let host = &bench.sandbox.host;
    let this = ec2.this_instance().unwrap();
    let wish = Claim {
        address: &bench.address,
        private_address: None,
        mastership: None,
        started: host.clock.monotonic_now(),
        timeout: Duration::from_secs(6),
    };
    let lost = claim(&host.root, &*host.clock, &host.stop, &*ec2, &this, &wish).unwrap_err();
    let message = &lost.problem().message;
    assert!(
        message.contains("another host has claimed it since"),
        "{message}"
    );
    let calls = ec2.calls.borrow();
    let writes = calls.iter().filter(|call| WRITES.contains(call)).count();
    assert_eq!(writes, 1, "{calls:?}");
}

#[test]
fn host_that_is_no_longer_master_gives_up_before_the_next_write() {
    for (states, why) in [
        (&[State::Backup][..], "is no longer the master but: backup"),
        (&[State::Fault], "is no longer the master but: fault"),
        (&[State::Backup, State::Master], "the master again"),
    ] {
        let bench = Bench::new(FakeEc2::new());
        bench.record_in_call(1, states);
        let error = bench.claim().unwrap_err();
        assert_eq!(error.result(), ClaimResult::GivenUp);
        assert!(error.problem().message.contains(why), "{error:?}");
        assert_eq!(
            (bench.writes(), bench.holder().as_str()),
            (0, OTHER_INTERFACE)
        );
    }
}

#[test]
fn metadata_service_is_asked_again_on_behalf_of_keepalived_only() {
    let sandbox = Sandbox::with_base_system();
    let host = &sandbox.host;
    let connect_within = |seconds| {
        let failures = Cell::new(3);
        let open = || -> Result<Box<dyn Ec2>, Ec2Error> {
            sandbox.clock.advance(1);
            match failures.replace(failures.get() - 1) {
                1.. => Err(Ec2Error::Metadata {
                    value: "its region",
                    why: "timed out after 3s".into(),
                    hint: "",
                }),
                _ => Ok(Box::new(FakeEc2::new())),
            }
        };
        let limit = Duration::from_secs(seconds);
        connect(&open, &*host.clock, &host.stop, limit).is_ok()
    };
    assert!(connect_within(60));
    assert!(!connect_within(2));
    assert!(!connect_within(0));
}

#[test]
fn signal_ends_the_claim() {
    let bench = Bench::new(FakeEc2::with_faults([Fault::Throttled; 50]));
    let stop = bench.sandbox.host.stop.clone();
    bench
        .ec2
        .on_call
        .replace(Some(Box::new(move |_| stop.set())));
    let error = bench.claim().unwrap_err();
    assert!(matches!(error, ClaimError::Stopped(_)), "{error:?}");
}
