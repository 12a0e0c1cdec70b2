//! Claiming an address of EC2 for this instance.
//!
//! Two hosts may believe that they are the master, while the network between them is cut. So a host changes EC2 at most
//! once for each time that it becomes the master: after EC2 accepted a claim, it only waits for the confirmation. The
//! later claim wins, and nobody takes the address back.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{describe, is_here};
use crate::balancer::claim::{ClaimResult, MovingAddress};
use crate::balancer::state::{self, RecordedState, State};
use crate::ports::backoff;
use crate::ports::clock::Clock;
use crate::ports::ec2::{Association, Ec2, Ec2Error, InstanceId, Mode, ThisInstance};
use crate::ports::exec::StopFlag;
use crate::ports::root::Root;
use crate::problem::Problem;

/// The first delay is that of this attempt: EC2 takes some tenths of a second to show a change.
const FIRST_DELAY_ATTEMPT: u32 = 3;

/// After this time EC2 shows a change of another host.
const SETTLING_TIME: Duration = Duration::from_secs(1);

/// A wish to have an address.
pub(crate) struct Claim<'a> {
    pub address: &'a MovingAddress,
    /// Where the traffic of an elastic IP goes to; the primary private address if absent.
    pub private_address: Option<Ipv4Addr>,
    /// The instance of keepalived on whose behalf this host claims it, and since when that is the master.
    pub mastership: Option<(&'a str, RecordedState)>,
    pub started: Instant,
    pub timeout: Duration,
}

/// A claim that succeeded.
#[derive(Debug, Serialize)]
pub(crate) struct ClaimOutcome {
    pub address: String,
    pub public_address: Option<Ipv4Addr>,
    pub instance: InstanceId,
    /// Who had it before, in words.
    pub before: Option<String>,
    /// How many changes were sent to EC2; 0: it was here already.
    pub attempts: u32,
    pub took_ms: u64,
}

/// Why an address was not claimed.
#[derive(Debug)]
pub(crate) enum ClaimError {
    /// This host is the master no longer.
    GivenUp(Problem),
    TimedOut(Problem),
    Stopped(Problem),
    Failed(Problem),
}

impl ClaimError {
    pub(crate) fn problem(&self) -> &Problem {
        match self {
            ClaimError::GivenUp(problem)
            | ClaimError::TimedOut(problem)
            | ClaimError::Stopped(problem)
            | ClaimError::Failed(problem) => problem,
        }
    }

    pub(crate) fn result(&self) -> ClaimResult {
        match self {
            ClaimError::GivenUp(_) => ClaimResult::GivenUp,
            _ => ClaimResult::Failed,
        }
    }
}

/// Opens EC2 and asks which instance this is. While the metadata service does not answer, asks again for as long as
/// `limit`: keepalived starts no other claim.
pub(crate) fn connect(
    open: &dyn Fn() -> Result<Box<dyn Ec2>, Ec2Error>,
    clock: &dyn Clock,
    stop: &StopFlag,
    limit: Duration,
) -> Result<(Box<dyn Ec2>, ThisInstance), ClaimError> {
    let started = clock.monotonic_now();
    for turn in FIRST_DELAY_ATTEMPT.. {
        let error = match open().and_then(|ec2| ec2.this_instance().map(|this| (ec2, this))) {
            Ok(connected) => return Ok(connected),
            Err(error) => error,
        };
        let delay = backoff::delay_before_retry(turn);
        let elapsed = clock.monotonic_now().saturating_duration_since(started);
        let is_metadata = matches!(error, Ec2Error::Metadata { .. });
        if !is_metadata || stop.is_set() || elapsed + delay >= limit {
            return Err(ClaimError::Failed(error.into()));
        }
        backoff::sleep(delay);
    }
    unreachable!("the turns end at the limit")
}

/// Gives the address to this instance, and waits until EC2 confirms that.
pub(crate) fn claim(
    root: &Root,
    clock: &dyn Clock,
    stop: &StopFlag,
    ec2: &dyn Ec2,
    this: &ThisInstance,
    claim: &Claim<'_>,
) -> Result<ClaimOutcome, ClaimError> {
    let mut attempt = Attempt {
        root,
        ec2,
        this,
        claim,
        attempts: 0,
        is_accepted: false,
        is_here_already: false,
        before: None,
        last_error: None,
    };
    let elapsed = || {
        clock
            .monotonic_now()
            .saturating_duration_since(claim.started)
    };
    for turn in FIRST_DELAY_ATTEMPT.. {
        match attempt.step()? {
            // EC2 may show what was so a moment ago, before another host claimed the address.
            Step::Confirmed(_) if attempt.attempts == 0 && !attempt.is_here_already => {
                attempt.is_here_already = true;
                backoff::sleep(SETTLING_TIME);
                continue;
            }
            Step::Confirmed(public_address) => {
                return Ok(ClaimOutcome {
                    address: claim.address.to_string(),
                    public_address,
                    instance: this.id.clone(),
                    before: attempt.before.filter(|_| attempt.attempts > 0),
                    attempts: attempt.attempts,
                    took_ms: u64::try_from(elapsed().as_millis()).unwrap_or(u64::MAX),
                });
            }
            Step::Unconfirmed => attempt.last_error = None,
            // Only the timeout ended a call that ends with it: the error before says more.
            Step::Failed(_) if elapsed() >= claim.timeout && attempt.last_error.is_some() => {}
            Step::Failed(error) => attempt.last_error = Some(error),
        }
        if stop.is_set() {
            let problem = attempt.problem("a signal stopped the claim");
            return Err(ClaimError::Stopped(problem));
        }
        let delay = backoff::delay_before_retry(turn);
        if elapsed() + delay >= claim.timeout {
            let why = format!("not claimed within {} s", claim.timeout.as_secs());
            return Err(ClaimError::TimedOut(attempt.problem(&why)));
        }
        backoff::sleep(delay);
    }
    unreachable!("the turns end at the timeout")
}

/// A claim in progress.
struct Attempt<'a> {
    root: &'a Root,
    ec2: &'a dyn Ec2,
    this: &'a ThisInstance,
    claim: &'a Claim<'a>,
    /// Changes that were sent.
    attempts: u32,
    /// EC2 accepted one: no other is sent.
    is_accepted: bool,
    /// EC2 showed the address here before any change.
    is_here_already: bool,
    /// Who had the address at last, in words.
    before: Option<String>,
    /// Of the last call, if that failed.
    last_error: Option<Ec2Error>,
}

/// What a step found.
enum Step {
    /// This instance has the address.
    Confirmed(Option<Ipv4Addr>),
    Unconfirmed,
    /// It may succeed the next time.
    Failed(Ec2Error),
}

impl Attempt<'_> {
    /// Asks who has the address, and claims it unless that is done.
    fn step(&mut self) -> Result<Step, ClaimError> {
        self.require_mastership()?;
        match describe(self.ec2, self.claim.address) {
            Ok(found) if is_here(&found, self.this, self.claim.private_address) => {
                return Ok(Step::Confirmed(found.public_address));
            }
            Ok(found) => {
                let holder = found.holders.first();
                let holder = holder.map_or("nobody".to_owned(), super::Holder::describe);
                self.before = Some(holder);
            }
            // Not knowing who has it is no reason to leave it there.
            Err(error) if error.is_transient() && !self.is_accepted => {}
            Err(error) => return self.failed(error),
        }
        if self.is_accepted {
            return Ok(Step::Unconfirmed);
        }
        // The question may have taken seconds.
        self.require_mastership()?;
        self.attempts += 1;
        match self.send() {
            Ok(()) => {
                self.is_accepted = true;
                Ok(Step::Unconfirmed)
            }
            Err(error) => self.failed(error),
        }
    }

    fn send(&self) -> Result<(), Ec2Error> {
        match self.claim.address {
            MovingAddress::Elastic(allocation) => {
                let association = Association {
                    allocation,
                    interface: &self.this.interface,
                    private_address: self.claim.private_address,
                };
                self.ec2.associate(&association, Mode::Execute)
            }
            MovingAddress::Private(address) => {
                let interface = &self.this.interface;
                self.ec2.assign(interface, *address, Mode::Execute)
            }
        }
    }

    fn failed(&self, error: Ec2Error) -> Result<Step, ClaimError> {
        match error.is_transient() {
            true => Ok(Step::Failed(error)),
            false => Err(ClaimError::Failed(error.into())),
        }
    }

    /// Fails if keepalived has decided anything since: if this host became the master again, another claim is running.
    /// keepalived's own check decides that haproxy serves, every second.
    fn require_mastership(&self) -> Result<(), ClaimError> {
        let Some((instance, master)) = &self.claim.mastership else {
            return Ok(());
        };
        let address = self.claim.address;
        match state::read(self.root, instance) {
            Ok(Some(now)) if now == *master => Ok(()),
            Ok(now) => {
                let why = match now.map(|now| now.state) {
                    Some(State::Master) => "has become the master again since".to_owned(),
                    Some(state) => format!("is no longer the master but: {}", state.word()),
                    None => "is no longer recorded".to_owned(),
                };
                let problem = Problem::new(format!(
                    "{address}: gave up, because keepalived's instance `{instance}` {why}"
                ));
                Err(ClaimError::GivenUp(problem.hint(
                    "the balancer that is the master claims it; `trueup eip status` shows who has it",
                )))
            }
            Err(error) => Err(ClaimError::Failed(Problem::new(error.why()))),
        }
    }

    /// Why the address is not here.
    fn problem(&self, why: &str) -> Problem {
        let address = self.claim.address;
        let holder = self.before.as_deref().unwrap_or("an unknown instance");
        let what = match (self.is_accepted, &self.last_error) {
            (_, Some(error)) => format!(": {error}"),
            (true, None) => format!(
                ": EC2 accepted the claim, but shows that {holder} has it: another host has claimed it since, or EC2 is late"
            ),
            (false, None) => String::new(),
        };
        let hint = self.last_error.as_ref().and_then(|error| error.hint());
        Problem::new(format!("{address}: {why}{what}"))
            .hint(hint.unwrap_or_else(|| format!("`trueup eip status {address}` shows who has it")))
    }
}
