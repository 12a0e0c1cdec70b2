//! How often a host that waits asks, and at which slots it looks: often enough that a slot stays free for about a second,
//! and no more than the store answers, however many hosts wait.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use super::register::Register;
use crate::ports::random::random_u64;

/// Hosts of a fleet that may ask in a second.
const ASKS_PER_SECOND: u32 = 500;

const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// The same of a host whose app is broken: the sha that it waits for may be the fix, so it should get a slot before others.
const SHORTEST_BROKEN_INTERVAL: Duration = Duration::from_millis(250);

/// As many as an environment may have records. A register that claims more would let a host wait for months, and converge nothing meanwhile.
const MAX_HOSTS: u32 = 30_000;

/// The size that a fleet is taken to have which nobody has ever counted.
const UNCOUNTED_HOSTS: u32 = 1000;

/// For each of so many slots, a request looks at one more: each slot is looked at about once a second.
const SLOTS_PER_PROBE: u32 = 400;

/// The fewest slots that are looked at for one request. In a small fleet one of several slots is soon found.
const MIN_PROBES: u32 = 2;

/// What a host has seen that decides how it asks again.
pub(crate) struct Polling {
    register: RefCell<Option<Register>>,
    next_slot: Cell<u32>,
    is_broken: Cell<bool>,
}

impl Polling {
    /// Begins to look at this slot: one that was free a moment ago.
    pub(crate) fn at(slot: u32) -> Polling {
        Polling {
            register: RefCell::default(),
            next_slot: Cell::new(slot),
            is_broken: Cell::new(false),
        }
    }

    /// Begins to look at any slot. Hosts that begin with different ones get in each other's way less.
    pub(crate) fn anywhere() -> Polling {
        Polling::at(u32::try_from(random_u64() >> 40).unwrap_or(0))
    }

    pub(super) fn notice(&self, register: &Register) {
        self.register.replace(Some(register.clone()));
    }

    /// The register as this host saw it last.
    pub(super) fn register(&self) -> Option<Register> {
        self.register.borrow().clone()
    }

    /// Whether the app of this host is broken while it waits.
    pub(crate) fn set_broken(&self, is_broken: bool) {
        self.is_broken.set(is_broken);
    }

    /// How long to wait until the next request, in the mean.
    pub(crate) fn interval(&self) -> Duration {
        let register = self.register.borrow();
        let count = register.as_ref().and_then(Register::newest_count);
        let hosts = count.map_or(UNCOUNTED_HOSTS, |count| count.hosts);
        interval(hosts, self.is_broken.get())
    }

    /// The slots to look at for one request: so many that all hosts together look at each slot about once a second.
    pub(super) fn probes(&self, slots: u32) -> impl Iterator<Item = u32> + use<> {
        let slots = slots.max(1);
        let first = self.next_slot.get() % slots;
        let probes = slots.div_ceil(SLOTS_PER_PROBE).max(MIN_PROBES).min(slots);
        (0..probes).map(move |probe| (first + probe) % slots)
    }

    /// Where the next request begins to look: at a slot that is free, or behind one that is held.
    pub(super) fn begin_at(&self, slot: u32) {
        self.next_slot.set(slot);
    }

    pub(crate) fn next_slot(&self) -> u32 {
        self.next_slot.get()
    }
}

fn interval(hosts: u32, is_broken: bool) -> Duration {
    let shortest = match is_broken {
        true => SHORTEST_BROKEN_INTERVAL,
        false => SHORTEST_INTERVAL,
    };
    let hosts = hosts.min(MAX_HOSTS);
    shortest.max(Duration::from_secs(hosts.into()) / ASKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_fleet_asks_500_times_a_second_and_reaches_each_slot() {
        for (hosts, slots, seconds, probes) in [
            (4, 1, 1, 1),
            (100, 25, 1, 2),
            (1000, 250, 2, 2),
            (10_000, 500, 20, 2),
            (10_000, 2500, 20, 7),
        ] {
            assert_eq!(
                interval(hosts, false),
                Duration::from_secs(seconds),
                "{hosts}"
            );
            assert_eq!(Polling::at(0).probes(slots).count(), probes, "{slots}");
        }
    }

    #[test]
    fn absurd_count_lets_no_host_wait_for_more_than_a_minute() {
        assert_eq!(interval(u32::MAX, false), Duration::from_secs(60));
    }

    #[test]
    fn broken_host_asks_more_often_but_no_large_fleet_does() {
        assert_eq!(interval(3, true), Duration::from_millis(250));
        assert_eq!(interval(250, true), Duration::from_millis(500));
        for hosts in [500, 10_000] {
            assert_eq!(interval(hosts, true), interval(hosts, false));
        }
    }

    #[test]
    fn probes_begin_again_at_the_first_slot_behind_the_last() {
        let polling = Polling::at(4);
        assert_eq!(polling.probes(5).collect::<Vec<_>>(), [4, 0]);
        polling.begin_at(u32::MAX);
        assert_eq!(polling.probes(4).collect::<Vec<_>>(), [3, 0]);
    }
}
