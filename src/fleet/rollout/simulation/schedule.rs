//! The shortest rollout that there can be: a scheduler that knows at once which host is ready and which slot is free, and
//! takes no time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::fleet::TICK;
use super::host::{BUILD, DRAIN, GATE};
use super::random::Random;

/// From the publication until the last of so many hosts is proven, each of which notices the sha at its next tick, builds
/// it and is out of service as long as those of the simulation.
pub(super) fn shortest(hosts: u32, slots: u32) -> Duration {
    let random = Random::new(u64::from(hosts));
    let ready = || random.within(Duration::ZERO, TICK) + random.within(BUILD.0, BUILD.1);
    let mut ready: Vec<Duration> = (0..hosts).map(|_| ready()).collect();
    ready.sort_unstable();
    let mut free: BinaryHeap<Reverse<Duration>> =
        (0..slots).map(|_| Reverse(Duration::ZERO)).collect();
    let mut end = Duration::ZERO;
    for ready in ready {
        let Some(Reverse(slot)) = free.pop() else {
            break;
        };
        let proven = ready.max(slot) + DRAIN + random.within(GATE.0, GATE.1);
        end = end.max(proven);
        free.push(Reverse(proven));
    }
    end
}
