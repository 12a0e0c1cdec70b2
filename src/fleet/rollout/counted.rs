//! What a count of the hosts changes in the register: pure functions, like the other changes of it.

use super::entry::{Canary, Counter, Entry, HaltCause, HaltRecord, HostCount};
use super::identity::EntryId;
use super::mutation::{Mutation, is_active};
use super::register::Register;

/// The hosts of the app, counted for an entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Counted {
    pub count: HostCount,
    /// Slots that the policy gives to so many hosts.
    pub slots: u32,
    /// `Err`: the policy wants canaries, and this is why there are none.
    pub canaries: Result<Vec<String>, String>,
    /// Canaries of the entry that have not passed and are gone.
    pub gone_canaries: Vec<String>,
}

impl Register {
    /// The hosts when they were last counted, for any entry.
    pub(super) fn newest_count(&self) -> Option<HostCount> {
        self.entries.iter().rev().find_map(|entry| entry.count)
    }

    /// Lets a host count the hosts, as the successor of the counter with this number: one of all that want to.
    pub(crate) fn begin_count(&mut self, id: &EntryId, before: u32, node: &str) {
        let entry = self.entry_mut(id).filter(|entry| entry.is_open());
        if let Some(entry) = entry.filter(|entry| entry.counters() == before) {
            entry.counter = Some(Counter {
                node: node.to_owned(),
                number: before.saturating_add(1),
            });
        }
    }

    /// Records how many hosts there are, and fixes the canaries. When an entry is counted again, the canaries stay; if
    /// none is left of those that have not passed, nobody goes on.
    pub(crate) fn count(&mut self, id: &EntryId, counted: &Counted, by: &str) {
        let Some(entry) = self.entry_mut(id).filter(|entry| entry.is_open()) else {
            return;
        };
        let mut count = counted.count;
        // Who served when the entry was opened. Newcomers that have taken the sha serve by now, and if they counted, the
        // next newcomer would wait for a host that served before and has proven it, where there is none.
        let before = entry.count.map_or(u32::MAX, |before| before.serving);
        count.serving = count.serving.min(before);
        let is_first = entry.count.replace(count).is_none();
        let mut waiting = entry
            .canaries
            .iter()
            .filter(|canary| !canary.passed)
            .peekable();
        let are_gone = waiting.peek().is_some()
            && waiting.all(|canary| counted.gone_canaries.contains(&canary.node));
        if are_gone && !entry.skips_canary {
            let why = "all canaries that have not passed are gone";
            let halt = HaltRecord::new(HaltCause::NoCanary, by, why);
            entry.halt.get_or_insert(halt);
        }
        if is_first {
            entry.choose_canaries(counted, by);
        }
        self.slots = counted.slots.max(1);
    }
}

impl Entry {
    fn choose_canaries(&mut self, counted: &Counted, by: &str) {
        // Where nobody serves, nobody can be taken out.
        if counted.count.serving == 0 {
            return;
        }
        match &counted.canaries {
            Ok(nodes) => {
                let canaries = nodes.iter().map(|node| Canary {
                    node: node.clone(),
                    passed: false,
                });
                self.canaries = canaries.collect();
            }
            Err(why) if !self.skips_canary && !is_active(Mutation::EmptyCanaryPasses) => {
                self.halt = Some(HaltRecord::new(HaltCause::NoCanary, by, why));
            }
            Err(_) => {}
        }
    }
}
