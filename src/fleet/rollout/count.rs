//! The hosts of an app: who counts them and when, how many slots they get, and which of them are canaries.
//!
//! Whoever counts reads the records of all hosts. So one host does it for all: the one that opened the entry, and then
//! whoever is entered first as its successor.

use std::time::Duration;

use jiff::Timestamp;

use super::counted::Counted;
use super::entry::{self, Entry, HostCount};
use super::identity::EntryId;
use super::journal::{Journal, JournalStore, KnownCounter};
use super::mutation::{Mutation, is_active};
use super::object::{MAX_SLOTS, RolloutError};
use super::participant::Participant;
use super::register::Register;
use super::store::{AppHost, RolloutStore};
use crate::desired::{Canary, CanaryHosts, RolloutPolicy, Sha};

/// How long a host may take to count the hosts. The largest fleet takes a minute, and two that count do no harm.
pub(super) const COUNT_TIMEOUT: Duration = Duration::from_secs(30);

impl<S: RolloutStore, J: JournalStore> Participant<'_, S, J> {
    /// Counts the hosts of the app for an entry.
    pub(super) fn count(&self, id: &EntryId) -> Result<Register, RolloutError> {
        let hosts = self.store.hosts()?;
        self.update_register(|register| {
            let needs_canaries = !register.was_done(&id.sha);
            let waiting = register.entry(id).map_or(&[][..], |entry| &entry.canaries);
            let counted = count(&hosts, &id.sha, self.policy, needs_canaries, waiting);
            register.count(id, &counted, &self.member.node);
        })
    }

    /// Counts the hosts of an entry that nobody has counted for a while: whoever began may have died, and those that need
    /// the canaries would wait for ever.
    pub(super) fn count_if_forgotten(
        &self,
        journal: &mut Journal,
        register: Register,
    ) -> Result<Register, RolloutError> {
        let current = register.current(self.sha);
        let uncounted = current.filter(|entry| entry.is_open() && entry.count.is_none());
        match uncounted {
            Some(entry)
                if !is_active(Mutation::OnlyOpenerCounts)
                    && self.begins_count(journal, entry, self.count_timeout)? =>
            {
                self.count(&entry.id.clone())
            }
            _ => Ok(register),
        }
    }

    /// Counts the hosts again, a heartbeat after the last time, while the entry is open: some may be gone, and with them
    /// slots or canaries.
    pub(super) fn keep_count(
        &self,
        register: &Register,
        heartbeat: Duration,
    ) -> Result<(), RolloutError> {
        let current = register.current(self.sha);
        let Some(entry) = current.filter(|entry| entry.is_open()) else {
            return Ok(());
        };
        let timeout = match entry.count {
            Some(_) => heartbeat,
            None => self.count_timeout,
        };
        if self.begins_count(&mut self.journals.load()?, entry, timeout)? {
            self.count(&entry.id)?;
        }
        Ok(())
    }

    /// Whether this host is to count the hosts now, instead of the one that began last, so long ago.
    fn begins_count(
        &self,
        journal: &mut Journal,
        entry: &Entry,
        timeout: Duration,
    ) -> Result<bool, RolloutError> {
        let (node, number) = (&self.member.node, entry.counters());
        // Whatever ended it, it has ended.
        let is_own = entry.count.is_none() && entry.is_counted_by(node);
        let is_same = |known: &&KnownCounter| known.entry == entry.id && known.number == number;
        let since = journal
            .counter
            .as_ref()
            .filter(is_same)
            .map(|known| known.since);
        if since.is_none() {
            journal.counter = Some(KnownCounter {
                entry: entry.id.clone(),
                number,
                since: self.now,
            });
            self.journals.save(journal)?;
        }
        if !is_own && !since.is_some_and(|since| has_passed(timeout, since, self.now)) {
            return Ok(false);
        }
        let id = &entry.id;
        let register = self.update_register(|register| register.begin_count(id, number, node))?;
        let entry = register.entry(id);
        Ok(entry.is_some_and(|entry| {
            entry.counters() == number.saturating_add(1) && entry.is_counted_by(node)
        }))
    }

    /// Counts the hosts again.
    #[cfg(test)]
    pub(super) fn recount(&self) -> Result<(), RolloutError> {
        let register = self.store.register()?.map(|found| found.object);
        let current = register
            .as_ref()
            .and_then(|register| register.current(self.sha));
        if let Some(entry) = current.filter(|entry| entry.is_open()) {
            self.count(&entry.id)?;
        }
        Ok(())
    }
}

/// Whether so much time has passed. A clock that was set back must not keep that for ever.
pub(super) fn has_passed(time: Duration, since: Timestamp, now: Timestamp) -> bool {
    now < since || Duration::try_from(now.duration_since(since)).is_ok_and(|passed| passed >= time)
}

/// Counts the live hosts for an entry of a sha. `needs_canaries`: the sha has never been everywhere. `canaries`: those that the
/// entry has already.
pub(super) fn count(
    hosts: &[AppHost],
    sha: &Sha,
    policy: &RolloutPolicy,
    needs_canaries: bool,
    canaries: &[entry::Canary],
) -> Counted {
    let live: Vec<&AppHost> = hosts.iter().filter(|host| host.is_live).collect();
    let serving = live.iter().filter(|host| host.serves).count();
    let takes_it = |host: &&AppHost| host.wanted.as_ref() == Some(sha);
    let expected: Vec<&AppHost> = live.iter().copied().filter(takes_it).collect();
    // If the manifest has changed since the entry was opened: that is no want of canaries, which would halt it.
    let candidates = if expected.is_empty() {
        &live
    } else {
        &expected
    };
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Counted {
        count: HostCount {
            hosts: number(expected.len()),
            serving: number(serving),
        },
        slots: number(policy.max_unavailable.of(live.len()).min(live.len().max(1))).min(MAX_SLOTS),
        gone_canaries: canaries
            .iter()
            .filter(|canary| !live.iter().any(|host| host.node == canary.node))
            .map(|canary| canary.node.clone())
            .collect(),
        canaries: match needs_canaries {
            true => choose_canaries(candidates, policy),
            false => Ok(Vec::new()),
        },
    }
}

/// The hosts that go first: among those that serve, in the order of their names.
fn choose_canaries(live: &[&AppHost], policy: &RolloutPolicy) -> Result<Vec<String>, String> {
    let Some(canary) = &policy.canary else {
        return Ok(Vec::new());
    };
    let mut serving: Vec<&str> = live
        .iter()
        .filter(|host| host.serves && host.matches_canary)
        .map(|host| host.node.as_str())
        .collect();
    serving.sort_unstable();
    let (limit, wanted) = match &canary.hosts {
        CanaryHosts::First(count) => {
            let count = usize::try_from(*count).unwrap_or(usize::MAX);
            (count, format!("`hosts: {count}`"))
        }
        CanaryHosts::Matching(tags) => {
            let tags = tags.iter().map(|(key, value)| format!("{key}: {value}"));
            let tags: Vec<String> = tags.collect();
            (
                Canary::MAX_HOSTS as usize,
                format!("`match: {{{}}}`", tags.join(", ")),
            )
        }
    };
    serving.truncate(limit);
    match serving.is_empty() {
        true => Err(format!(
            "no live host that serves the app is a canary by {wanted}"
        )),
        false => Ok(serving.into_iter().map(str::to_owned).collect()),
    }
}
