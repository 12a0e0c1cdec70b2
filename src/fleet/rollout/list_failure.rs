//! Lists in the register which hosts do not take the sha for reasons of their own, so that people and CI see why. It
//! decides nothing, so it takes little room and few writes.

use super::entry::Entry;
use super::fit::fit;
use super::journal::{JournalStore, ListedFailure};
use super::local_failure::LocalFailure;
use super::object::RolloutError;
use super::participant::Participant;
use super::register::Register;
use super::store::{RolloutStore, Swap};
use crate::desired::Sha;
use crate::printable::without_numbers;

/// Hosts that an entry lists. A host that comes later is not listed, so that a sha which fails to build on ten thousand
/// hosts is not written ten thousand times.
const MAX_LISTED: usize = 20;

/// Hosts that are listed with the last lines that a program printed.
const MAX_LOG_TAILS: usize = 5;

/// Attempts at a write while other hosts come first. The next pass tries again.
const ATTEMPTS: u32 = 3;

/// Above this many hosts, one attempt has to do: all of them may fail in the same moment.
const MANY_HOSTS: u32 = 100;

impl Entry {
    /// Lists a failure of a host in place of an earlier one, if there is room. Sorted by name.
    fn list_failure(&mut self, failure: &LocalFailure) {
        let same = |listed: &LocalFailure| listed.node.cmp(&failure.node);
        match self.local_failures.binary_search_by(same) {
            Ok(known) => self.local_failures[known] = failure.clone(),
            Err(at) if self.local_failures.len() < MAX_LISTED => {
                self.local_failures.insert(at, failure.clone());
            }
            Err(_) => return,
        }
        let tails = self.local_failures.iter_mut().skip(MAX_LOG_TAILS);
        tails.for_each(|listed| listed.log_tail.clear());
    }

    pub(super) fn lists(&self, node: &str) -> bool {
        self.local_failures.iter().any(|listed| listed.node == node)
    }

    /// Whether this host is to be listed: not one whose failure counts, and nobody while the entry is halted, which
    /// says more.
    fn takes_failure_of(&self, node: &str) -> bool {
        let has_room = self.local_failures.len() < MAX_LISTED || self.lists(node);
        let mut counted = self.failures.iter();
        self.is_open()
            && self.halt.is_none()
            && has_room
            && !counted.any(|failure| failure.member.node == node)
    }
}

impl Register {
    /// Lists no failure of a host any more.
    pub(super) fn unlist_failure(&mut self, sha: &Sha, node: &str) {
        let of_sha = self.entries.iter_mut().filter(|entry| entry.id.sha == *sha);
        of_sha.for_each(|entry| entry.local_failures.retain(|listed| listed.node != node));
    }

    /// The same for all shas.
    pub(super) fn unlist_node(&mut self, node: &str) {
        let entries = self.entries.iter_mut();
        entries.for_each(|entry| entry.local_failures.retain(|listed| listed.node != node));
    }
}

impl<S: RolloutStore, J: JournalStore> Participant<'_, S, J> {
    /// Lists why this host does not take the wanted sha, or removes it from the list. To be called after each pass:
    /// it asks the store only if something has changed, or the list had no room.
    pub(super) fn list_failure(&self, failure: Option<&LocalFailure>) -> Result<(), RolloutError> {
        let mut journal = self.journals.load()?;
        // Hosts with other tags may still take the sha that this one was to get before.
        let is_over = |listed: &ListedFailure| failure.is_none() || listed.sha != *self.sha;
        if let Some(listed) = journal.listed.take_if(|listed| is_over(listed)) {
            let node = &self.member.node;
            self.update_register(|register| register.unlist_failure(&listed.sha, node))?;
            self.journals.save(&journal)?;
        }
        let Some(failure) = failure else {
            return Ok(());
        };
        let new = ListedFailure {
            sha: self.sha.clone(),
            generation: self.wanted.generation,
            reason: without_numbers(&failure.describe()),
            is_listed: false,
        };
        let known = journal.listed.clone();
        let is_listed = known.as_ref().is_some_and(|known| known.is_listed);
        let known = known.map(|known| ListedFailure {
            is_listed: false,
            ..known
        });
        // A failure that counts is about to be recorded.
        if known.as_ref() == Some(&new) && is_listed || journal.failure.is_some() {
            return Ok(());
        }
        if known.as_ref() != Some(&new) {
            // Before the write: a host that is killed in between has to remove it later.
            journal.listed = Some(new.clone());
            self.journals.save(&journal)?;
        }
        if self.write_failure(failure)? {
            journal.listed = Some(ListedFailure {
                is_listed: true,
                ..new
            });
            self.journals.save(&journal)?;
        }
        Ok(())
    }

    /// Returns whether the register lists it.
    fn write_failure(&self, failure: &LocalFailure) -> Result<bool, RolloutError> {
        for _ in 0..ATTEMPTS {
            let found = self.store.register()?;
            let etag = found.as_ref().map(|found| found.etag.clone());
            let mut register = found.map_or_else(|| self.new_register(), |found| found.object);
            // Where the build fails on every host, none ever asks for permission.
            if register.lacks(self.sha, self.wanted) {
                self.open(self.wanted)?;
                continue;
            }
            let Some(entry) = register.current(self.sha) else {
                return Ok(false);
            };
            let (id, count) = (entry.id.clone(), entry.count);
            if !entry.takes_failure_of(&failure.node) {
                return Ok(false);
            }
            let before = register.clone();
            if let Some(entry) = register.entries.iter_mut().find(|entry| entry.id == id) {
                entry.list_failure(failure);
            }
            if register == before {
                return Ok(true);
            }
            register.nonce = self.store.nonce();
            let is_listed = |register: &Register| {
                let entry = register.entry(&id);
                entry.is_some_and(|entry| entry.lists(&failure.node))
            };
            if !fit(&mut register) || !is_listed(&register) {
                return Ok(false);
            }
            if self.store.swap_register(&register, etag.as_ref())? == Swap::Written {
                return Ok(true);
            }
            if count.is_some_and(|count| count.hosts > MANY_HOSTS) {
                break;
            }
        }
        Ok(false)
    }
}
