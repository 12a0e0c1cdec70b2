//! A balancer of a pair: what it does now, and an operator's drain.

mod elsewhere;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::balancer::check::{self, HaproxyTarget};
use crate::balancer::config::{PairConfig, VrrpInstance};
use crate::balancer::drain::Drain;
use crate::balancer::state::{self, RecordedState, State};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::ports::clock::Clock;
use crate::ports::ec2::{Ec2, Ec2Error};
use crate::ports::exec::StopFlag;
use crate::ports::haproxy::{HeldListeners, RuntimeSocket};
use crate::ports::root::Root;
use crate::ports::state::StateError;
use crate::ports::{backoff, machine};
use crate::problem::Problem;

/// How often a wait looks.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How long requests that are under way may take to end before the address moves: after a second, clients try again.
const REQUEST_END_TIMEOUT: Duration = Duration::from_millis(500);

/// How long new connections are held back at most.
const MAX_HOLD: Duration = Duration::from_secs(3);

/// How often trueup looks whether they have ended, and how many connections haproxy has then: that of the question.
const REQUEST_POLL_INTERVAL: Duration = Duration::from_millis(20);
const OWN_CONNECTIONS: u64 = 1;

/// How long another balancer may take for an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Opens EC2, if it has to be asked.
pub(crate) type OpenEc2<'a> = &'a dyn Fn() -> Result<Box<dyn Ec2>, Ec2Error>;

/// What this host knows about its pair.
pub(crate) struct Balancer<'a> {
    root: &'a Rc<Root>,
    clock: &'a dyn Clock,
    instances: Vec<VrrpInstance>,
    haproxy: HaproxyTarget,
    /// The addresses of this host now.
    own_addresses: fn() -> BTreeSet<IpAddr>,
    open_ec2: OpenEc2<'a>,
}

/// The document of `balancer status --output`.
#[derive(Debug, Serialize)]
pub(crate) struct BalancerReport {
    version: u32,
    pub outcome: Exit,
    pub instances: Vec<InstanceRow>,
    /// `null`: this balancer is not drained, or the record of it is damaged.
    pub drain: Option<Drain>,
    /// Why the record cannot be read: it is drained nevertheless.
    pub drain_error: Option<String>,
    /// Why haproxy does not serve; `null`: it does.
    pub haproxy_failure: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct InstanceRow {
    pub name: String,
    /// `null`: keepalived has reported none since the boot of this host.
    pub state: Option<State>,
    pub since: Option<Timestamp>,
    pub addresses: Vec<AddressRow>,
    pub peers: Vec<IpAddr>,
}

#[derive(Debug, Serialize)]
pub(crate) struct AddressRow {
    pub address: IpAddr,
    /// Whether this host has it.
    pub here: bool,
}

/// How a wait ended, and what is so now.
pub(crate) enum MoveOutcome {
    Done,
    /// What is still missing.
    TimedOut(String),
    /// What was missing; all is as it was before.
    Undone(String),
}

/// Limits of a wait.
pub(crate) struct Wait<'a> {
    pub timeout: Duration,
    pub stop: &'a StopFlag,
    /// Gets each step that has not been announced.
    pub announce: &'a mut dyn FnMut(&str),
}

impl<'a> Balancer<'a> {
    pub(crate) fn open(
        root: &'a Rc<Root>,
        clock: &'a dyn Clock,
        open_ec2: OpenEc2<'a>,
    ) -> Result<Self, CommandError> {
        let missing = |why: &str, hint: &str| CommandError::Usage(Problem::new(why).hint(hint));
        let config = PairConfig::load(root)?.ok_or_else(|| {
            missing(
                "this host is no balancer of a pair: it has no /etc/keepalived/keepalived.conf",
                "`roles: [haproxy, keepalived]` makes it one; the next pass writes the file",
            )
        })?;
        let haproxy = config.haproxy.ok_or_else(|| {
            missing(
                "keepalived of this host does not ask `trueup balancer check`, so a drain would change nothing",
                "the file /etc/keepalived/keepalived.conf of the role `keepalived` does",
            )
        })?;
        Ok(Balancer {
            root,
            clock,
            instances: config.instances,
            haproxy,
            own_addresses: interface_addresses,
            open_ec2,
        })
    }

    pub(crate) fn status(&self) -> Result<BalancerReport, CommandError> {
        let own = (self.own_addresses)();
        let mut instances = Vec::new();
        for instance in &self.instances {
            let recorded = self.recorded(instance)?;
            instances.push(InstanceRow {
                name: instance.name.clone(),
                state: recorded.as_ref().map(|recorded| recorded.state),
                since: recorded.map(|recorded| recorded.since),
                addresses: instance
                    .addresses
                    .iter()
                    .map(|address| AddressRow {
                        address: *address,
                        here: own.contains(address),
                    })
                    .collect(),
                peers: instance.peers.clone(),
            });
        }
        let (drain, drain_error) = match Drain::load(self.root) {
            Ok(drain) => (drain, None),
            Err(error) => (None, Some(error.why())),
        };
        let haproxy_failure = check::haproxy_failure(self.root, &self.haproxy);
        let outcome = match haproxy_failure.is_some() {
            true => Exit::Failed,
            false if drain.is_some() || drain_error.is_some() => Exit::Waiting,
            false => Exit::Converged,
        };
        Ok(BalancerReport {
            version: crate::report::VERSION,
            outcome,
            instances,
            drain,
            drain_error,
            haproxy_failure,
        })
    }

    /// Drains this balancer, and waits until each address is elsewhere. If they do not get there in time, or the wait is
    /// stopped, this host may have them again: nobody may have them now, as when the other balancers are drained, too. `force`: also if nobody
    /// would take them. Returns the drain in force.
    pub(crate) fn drain(
        &self,
        drain: Drain,
        force: bool,
        wait: Wait<'_>,
    ) -> Result<(Drain, MoveOutcome), CommandError> {
        let before = Drain::load(self.root).ok().flatten();
        let has_successor = match self.missing_successor() {
            None => true,
            Some(why) if force || before.is_some() => {
                (wait.announce)(&why);
                false
            }
            Some(why) => {
                return Err(CommandError::Failed(Problem::new(why).hint(
                    "bring another balancer up first; with --force this one is drained nevertheless, and then nobody has the address",
                )));
            }
        };
        let is_here = self.instances.iter().any(|instance| {
            let own = (self.own_addresses)();
            instance.addresses.iter().any(|ip| own.contains(ip))
        });
        let held = (has_successor && is_here).then(|| self.end_requests());
        let is_new = before.is_none();
        let drain = before.unwrap_or(drain);
        drain.save(self.root)?;
        // Until the address is elsewhere; not for much longer than that takes.
        let held = RefCell::new(held.flatten());
        let held_until = self.clock.monotonic_now() + MAX_HOLD;
        let outcome = self.wait_for(wait, || {
            let missing = self.what_stays(has_successor)?;
            if missing.is_none() || self.clock.monotonic_now() >= held_until {
                held.take();
            }
            Ok(missing)
        });
        let is_kept = !is_new || force;
        if !is_kept && !matches!(outcome, Ok(MoveOutcome::Done)) {
            Drain::remove(self.root)?;
        }
        match outcome {
            Ok(MoveOutcome::TimedOut(why)) if !is_kept => Ok((drain, MoveOutcome::Undone(why))),
            Ok(outcome) => Ok((drain, outcome)),
            Err(CommandError::Stopped(problem)) => {
                let hint = match is_kept {
                    true => "this balancer stays drained: `trueup balancer undrain` ends it",
                    false => "this balancer is not drained: it may have the address again",
                };
                Err(CommandError::Stopped(problem.hint(hint)))
            }
            Err(error) => Err(error),
        }
    }

    /// Holds new connections back, and waits a moment for the requests that are under way. Without haproxy, or where the
    /// kernel cannot do this, some of them are lost when the address moves.
    fn end_requests(&self) -> Option<HeldListeners> {
        let socket = RuntimeSocket::new(self.root, &self.haproxy.socket);
        let hold = || -> Result<HeldListeners, String> {
            let pid = socket.info().map_err(|error| error.to_string())?.pid;
            HeldListeners::hold(pid).map_err(|error| error.to_string())
        };
        let held = hold()
            .inspect_err(|why| tracing::warn!("new connections are not held back: {why}"))
            .ok()?;
        let started = self.clock.monotonic_now();
        let is_idle = || {
            let status = socket.process_status();
            status.is_ok_and(|status| status.connections <= OWN_CONNECTIONS)
        };
        while !is_idle() {
            let waited = self
                .clock
                .monotonic_now()
                .saturating_duration_since(started);
            if waited >= REQUEST_END_TIMEOUT {
                break;
            }
            backoff::sleep(REQUEST_POLL_INTERVAL);
        }
        Some(held)
    }

    /// Ends the drain, and waits until keepalived may give this host an address again. Returns whether there was one.
    pub(crate) fn undrain(&self, wait: Wait<'_>) -> Result<(bool, MoveOutcome), CommandError> {
        let was_drained = Drain::remove(self.root)?;
        if let Ok(info) = RuntimeSocket::new(self.root, &self.haproxy.socket).info()
            && let Err(error) = HeldListeners::release(info.pid)
        {
            tracing::debug!("the listeners of haproxy: {error}");
        }
        let outcome = self.wait_for(wait, || {
            if let Some(why) = check::failure(self.root, &self.haproxy) {
                return Ok(Some(why));
            }
            for instance in &self.instances {
                let state = self.recorded(instance)?.map(|recorded| recorded.state);
                if let Some(state @ (State::Fault | State::Stop)) = state {
                    let (name, state) = (&instance.name, state.word());
                    return Ok(Some(format!(
                        "keepalived still has {name} in the state {state}"
                    )));
                }
            }
            Ok(None)
        })?;
        Ok((was_drained, outcome))
    }

    /// Why nobody would take an address.
    fn missing_successor(&self) -> Option<String> {
        self.instances.iter().find_map(|instance| {
            let mut failures = Vec::new();
            for peer in &instance.peers {
                match check::request(&self.url_at(*peer), REQUEST_TIMEOUT) {
                    Ok(()) => return None,
                    Err(why) => failures.push(why),
                }
            }
            let addresses = join(&instance.addresses);
            Some(match failures.is_empty() {
                true => format!("this host knows no other balancer that would take {addresses}"),
                false => format!(
                    "no other balancer would take {addresses}: {}",
                    failures.join("; ")
                ),
            })
        })
    }

    /// What keeps an address from being elsewhere.
    fn what_stays(&self, has_successor: bool) -> Result<Option<String>, StateError> {
        let own = (self.own_addresses)();
        for instance in &self.instances {
            if let Some(address) = instance.addresses.iter().find(|ip| own.contains(ip)) {
                return Ok(Some(format!("{address} is still here")));
            }
            let state = self.recorded(instance)?.map(|recorded| recorded.state);
            if let Some(state @ (State::Master | State::Backup)) = state {
                let name = &instance.name;
                return Ok(Some(format!(
                    "keepalived still has {name} in the state {}",
                    state.word()
                )));
            }
            let missing = has_successor.then(|| self.missing_elsewhere(instance));
            if let Some(why) = missing.flatten() {
                return Ok(Some(why));
            }
        }
        Ok(None)
    }

    fn wait_for(
        &self,
        wait: Wait<'_>,
        missing: impl Fn() -> Result<Option<String>, StateError>,
    ) -> Result<MoveOutcome, CommandError> {
        let started = self.clock.monotonic_now();
        let mut announced = String::new();
        loop {
            let Some(why) = missing().map_err(state_error)? else {
                return Ok(MoveOutcome::Done);
            };
            if wait.stop.is_set() {
                return Err(CommandError::Stopped(Problem::new(format!(
                    "stopped while {why}"
                ))));
            }
            let waited = self
                .clock
                .monotonic_now()
                .saturating_duration_since(started);
            if waited >= wait.timeout {
                return Ok(MoveOutcome::TimedOut(why));
            }
            if why != announced {
                (wait.announce)(&why);
                announced = why;
            }
            backoff::sleep(POLL_INTERVAL);
        }
    }

    fn recorded(&self, instance: &VrrpInstance) -> Result<Option<RecordedState>, StateError> {
        // A name that is not from the role has no record.
        match state::is_instance_name(&instance.name) {
            true => state::read(self.root, &instance.name),
            false => Ok(None),
        }
    }
}

fn interface_addresses() -> BTreeSet<IpAddr> {
    let all = machine::interface_addresses().unwrap_or_default();
    all.into_iter().map(|address| address.ip).collect()
}

fn join(addresses: &[IpAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    texts.join(" and ")
}

fn state_error(error: StateError) -> CommandError {
    CommandError::failed(error.to_string())
}

impl From<StateError> for CommandError {
    fn from(error: StateError) -> CommandError {
        state_error(error)
    }
}
