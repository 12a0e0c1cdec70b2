//! A rollout through a large fleet in virtual time, for `benches/fleet.rs`: how long it takes, and what it costs.
//!
//! Each host is a coroutine ([`timeline`]) that runs the very code of the protocol, with the objects and keys of the real
//! store, against a bucket in memory ([`bucket`]): each request takes time, in which other hosts go on, so reads are
//! stale and writes conflict as they do in S3. Only what a pass does around the protocol ([`host`]) is imitated. The
//! model (`model`) explores all orders of a few requests; this one looks at one order of very many.

mod bucket;
mod fleet;
mod host;
mod meter;
mod random;
mod schedule;
#[cfg(test)]
mod tests;
mod timeline;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use self::fleet::Fleet;
use self::host::{Host, OUTAGE};
pub use self::meter::Usage;
use self::timeline::{Sleep, VirtualClock};
use crate::desired::RolloutPolicy;

/// When the new sha is published: all hosts have begun their ticks.
const PUBLISHED: Duration = Duration::from_secs(60);

/// How precisely the end is noticed.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);

/// After the end of the rollout, until each host knows of it, and for how long the hosts are watched then.
const AFTERMATH: Duration = Duration::from_secs(90);
const IDLE: Duration = Duration::from_secs(600);

/// What to simulate.
pub struct Scenario<'a> {
    pub hosts: u32,
    /// As in the manifest: hosts, or a percentage.
    pub max_unavailable: &'a str,
    /// The end of a rollout that takes longer.
    pub limit: Duration,
    /// An empty folder.
    pub folder: &'a Path,
}

/// What happened.
#[derive(Debug, Default, Clone)]
pub struct Outcome {
    pub slots: u32,
    /// The waves that the slots allow, each as long as a host is out of service in the mean.
    pub waves: Duration,
    /// From the publication to the end, if hosts knew everything at once; with their ticks, builds, and times out of
    /// service, which differ.
    pub ideal: Duration,
    /// From the publication until the last host that has the sha had it.
    pub switched_after: Duration,
    /// From the publication to the end; `None`: it took longer than the limit.
    pub took: Option<Duration>,
    /// How long the hosts were watched while the rollout ran.
    pub watched: Duration,
    /// Hosts that have the new sha.
    pub switched: u32,
    /// The most hosts that were out of service at a time.
    pub most_out: u32,
    /// Slots that are held after the end.
    pub held_slots: usize,
    /// Passes that lacked an answer.
    pub errors: u64,
    pub last_error: String,
    /// While the rollout ran, and until each host knew of its end.
    pub rolling: Usage,
    /// Of [`Outcome::idle_time`] afterwards.
    pub idle: Usage,
    pub idle_time: Duration,
    pub peak_reads: u64,
    pub peak_writes: (u64, String),
}

/// Runs a rollout.
///
/// # Panics
///
/// If `max_unavailable` is none.
#[must_use]
pub fn simulate(scenario: &Scenario<'_>) -> Outcome {
    let policy = RolloutPolicy {
        max_unavailable: scenario.max_unavailable.parse().expect("it is an amount"),
        ..RolloutPolicy::default()
    };
    let clock = VirtualClock::default();
    let fleet = Rc::new(Fleet::new(scenario.hosts, policy, scenario.folder, &clock));
    let waves = scenario.hosts.div_ceil(fleet.slots());
    let outcome = Rc::new(RefCell::new(Outcome {
        slots: fleet.slots(),
        waves: OUTAGE * waves,
        ideal: schedule::shortest(scenario.hosts, fleet.slots()),
        ..Outcome::default()
    }));
    let mut tasks = Vec::new();
    for number in 0..scenario.hosts {
        let fleet = fleet.clone();
        tasks.push(timeline::task(move |sleep| {
            Host::new(&fleet, number, sleep).live();
        }));
    }
    let (watched, end) = ((fleet.clone(), outcome.clone()), scenario.limit);
    tasks.push(timeline::task(move |sleep| {
        watch(&watched.0, &mut watched.1.borrow_mut(), end, sleep);
    }));
    timeline::run(tasks, &clock, || fleet.is_over.get());
    let mut outcome = outcome.take();
    outcome.switched = fleet.switched.get();
    outcome.most_out = fleet.most_out.get();
    let last = fleet.last_switched.get();
    outcome.switched_after = last.saturating_sub(PUBLISHED);
    outcome.held_slots = fleet.held_slots();
    outcome.errors = fleet.errors.get();
    outcome.last_error.clone_from(&fleet.last_error.borrow());
    let meter = fleet.bucket.meter.borrow();
    outcome.peak_reads = meter.peak_reads;
    outcome.peak_writes.clone_from(&meter.peak_writes);
    outcome
}

/// Publishes the new sha, and watches what follows.
fn watch(fleet: &Fleet, outcome: &mut Outcome, limit: Duration, sleep: &Sleep<'_>) {
    let usage = || fleet.bucket.meter.borrow().total;
    sleep.sleep(PUBLISHED);
    fleet.publish(2, &fleet.new);
    let before = usage();
    let waited = || fleet.clock.elapsed() - PUBLISHED;
    while !fleet.is_done() && waited() < limit {
        sleep.sleep(WATCH_INTERVAL);
    }
    if fleet.is_done() {
        outcome.took = Some(waited());
        sleep.sleep(AFTERMATH);
    }
    outcome.watched = waited();
    outcome.rolling = usage().since(&before);
    if outcome.took.is_some() {
        let before = usage();
        sleep.sleep(IDLE);
        outcome.idle = usage().since(&before);
        outcome.idle_time = IDLE;
    }
    fleet.is_over.set(true);
}
