//! What a host owes to a rollout after a pass: its mark, its slot, the proof of a canary, the end of the entry.

use std::time::Duration;

use jiff::Timestamp;

use super::count::has_passed;
use super::entry::Entry;
use super::host_rollout::HostRollout;
use super::journal::{FollowedLift, Journal, JournalStore, JournaledHealth};
use super::local_failure::LocalFailure;
use super::object::RolloutError;
use super::operator::{Operator, OperatorError};
use super::participant::{Participant, Permit};
use super::store::RolloutStore;
use crate::desired::{OnFailure, Sha};
use crate::ports::permission::Purpose;

/// The most that counts between two proofs: a suspended machine proves nothing.
const MAX_GAP: Duration = Duration::from_secs(60);

/// Where the app of this host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AppPosition {
    /// The wanted sha is active and proven.
    Wanted,
    /// Another sha is active and proven.
    Other,
    /// The active release is not proven, and the app served before.
    Unproven,
    /// It has never served here.
    Absent,
}

/// Above so many hosts, only some of them try to end an entry, because who tries lists all hosts: so many at a time, in
/// the mean.
const LARGE_FLEET: u64 = 500;
const FINISHERS: u64 = 50;

/// What is left to do soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Nothing, or nothing that anybody waits for.
    Nothing,
    /// Nothing at all: the rollout is over, and the register says nothing of this host.
    Over {
        /// The last rolling restart that this host has marked as carried out.
        restarted: Option<Timestamp>,
    },
    /// Others wait until this host has proven itself for longer.
    Proving,
    /// The release of before is not proven either: it is not the sha, which is not quarantined on this host either.
    Environment,
}

impl HostRollout {
    /// Settles what this host owes. `is_healthy` asks the app, if that has to be known.
    pub(crate) fn settle(
        &self,
        position: AppPosition,
        is_healthy: &dyn Fn() -> bool,
    ) -> Result<Settled, RolloutError> {
        let heartbeat = self.host.fleet.heartbeat();
        self.with(|participant| {
            let left = participant.settle(position, is_healthy, heartbeat)?;
            if self.is_waiting() {
                participant.keep_count_while_waiting(heartbeat)?;
            }
            Ok(left)
        })
    }

    /// Says why this host does not take the wanted sha for reasons of its own; `None`: there is none, or no longer.
    pub(crate) fn list_failure(&self, failure: Option<&LocalFailure>) -> Result<(), RolloutError> {
        self.with(|participant| participant.list_failure(failure))
    }

    /// Why this host is to be at the sha that was wanted before, if it is.
    pub(crate) fn instead(
        &self,
        position: AppPosition,
        previous: &Sha,
    ) -> Result<Option<String>, RolloutError> {
        self.with(|participant| match position {
            AppPosition::Absent => participant.last_good(previous),
            // Also of a host that was killed on its way back.
            AppPosition::Wanted | AppPosition::Unproven
                if self.policy.on_failure == OnFailure::Rollback =>
            {
                participant.way_back(previous)
            }
            AppPosition::Wanted | AppPosition::Other | AppPosition::Unproven => Ok(None),
        })
    }

    /// Who lifted the quarantine of the wanted sha in the environment, and why, if this host has not followed yet. To be
    /// asked while the sha is quarantined here.
    pub(crate) fn follow_lift(&self) -> Result<Option<(String, String)>, RolloutError> {
        self.with(|participant| {
            let found = participant.store.quarantine(&self.sha)?;
            let Some(found) = found
                .map(|found| found.object)
                .filter(|found| !found.in_force)
            else {
                return Ok(None);
            };
            let mut journal = participant.journals.load()?;
            let lift = FollowedLift {
                sha: self.sha.clone(),
                epoch: found.epoch,
            };
            if journal.lift.as_ref() == Some(&lift) {
                return Ok(None);
            }
            journal.lift = Some(lift);
            journal.failed_here = None;
            participant.journals.save(&journal)?;
            Ok(Some((found.by, found.reason)))
        })
    }

    /// An operator lets the sha be tried again that failed here, and with it all hosts if it is quarantined for them.
    /// Returns whether it was.
    pub(crate) fn lift_quarantine(&self, by: &str, reason: &str) -> Result<bool, RolloutError> {
        self.with(|participant| {
            let found = participant.store.quarantine(&self.sha)?;
            let is_quarantined = found.is_some_and(|found| found.object.in_force);
            if is_quarantined {
                let operator = Operator {
                    store: participant.store,
                    environment: &self.host.environment,
                    app: &self.app,
                    name: by,
                    reason,
                    now: self.host.clock.now(),
                    sign: None,
                };
                // Nothing but the store keeps it from that.
                if let Err(OperatorError::Rollout(error)) = operator.lift_quarantine(&self.sha) {
                    return Err(error);
                }
            }
            let mut journal = participant.journals.load()?;
            if journal.failed_here.take().is_some() {
                participant.journals.save(&journal)?;
            }
            Ok(is_quarantined)
        })
    }
}

impl<S: RolloutStore, J: JournalStore> Participant<'_, S, J> {
    /// A host that serves nothing takes what served before, while the wanted sha is not known to work.
    fn last_good(&self, previous: &Sha) -> Result<Option<String>, RolloutError> {
        let Permit::Denied(obstacle) = self.peek(Purpose::Deploy, false)? else {
            return Ok(None);
        };
        let why = obstacle
            .remedy(self.sha)
            .describe(self.environment, self.app);
        Ok(self.may_take(previous)?.then_some(why))
    }

    /// A host that is proven at a sha that has failed elsewhere goes back.
    fn way_back(&self, previous: &Sha) -> Result<Option<String>, RolloutError> {
        if self.is_ended()? {
            return Ok(None);
        }
        let quarantine = self.store.quarantine(self.sha)?.map(|found| found.object);
        let Some(quarantine) = quarantine.filter(|found| found.in_force) else {
            return Ok(None);
        };
        let why = format!("it failed on {}: {}", quarantine.by, quarantine.reason);
        Ok(self.may_take(previous)?.then_some(why))
    }

    fn may_take(&self, sha: &Sha) -> Result<bool, RolloutError> {
        let quarantine = self.store.quarantine(sha)?;
        Ok(quarantine.is_none_or(|found| !found.object.in_force))
    }

    pub(super) fn settle(
        &self,
        position: AppPosition,
        is_healthy: &dyn Fn() -> bool,
        heartbeat: Duration,
    ) -> Result<Settled, RolloutError> {
        let journal = self.journals.load()?;
        match position {
            AppPosition::Wanted => self.settle_wanted(journal, is_healthy, heartbeat),
            // It served all the time, or has proven itself again after the wanted sha failed.
            AppPosition::Other if journal.slot.is_some() || journal.failure.is_some() => {
                if !is_healthy() {
                    return Ok(Settled::Proving);
                }
                self.leave()?;
                Ok(Settled::Nothing)
            }
            AppPosition::Unproven
                if journal
                    .failure
                    .as_ref()
                    .is_some_and(|failure| failure.served) =>
            {
                self.note_environment("the release of before is not proven either")?;
                Ok(Settled::Environment)
            }
            AppPosition::Absent | AppPosition::Unproven if journal.failure.is_some() => {
                self.leave()?;
                Ok(Settled::Nothing)
            }
            AppPosition::Unproven if journal.slot.is_some() => Ok(Settled::Proving),
            AppPosition::Other | AppPosition::Unproven | AppPosition::Absent => {
                Ok(Settled::Nothing)
            }
        }
    }

    fn settle_wanted(
        &self,
        mut journal: Journal,
        is_healthy: &dyn Fn() -> bool,
        heartbeat: Duration,
    ) -> Result<Settled, RolloutError> {
        if self.knows_end(&journal) && journal.is_marked && journal.slot.is_none() {
            return Ok(match journal.listed {
                None => Settled::Over {
                    restarted: journal.restarted,
                },
                Some(_) => Settled::Nothing,
            });
        }
        let is_first = journal.mark.as_ref() != Some(self.sha);
        // Nobody waits for its health but those who wait for its slot or its bake; and the gate has just proven it.
        let is_awaited = journal.slot.is_some() || self.policy.canary.is_some();
        if !is_first && is_awaited && !is_healthy() {
            journal.health = None;
            self.journals.save(&journal)?;
            return Ok(Settled::Proving);
        }
        let healthy = match is_first || is_awaited {
            true => self.count_health(&mut journal)?,
            false => Duration::ZERO,
        };
        let register = self.proven(journal.grant.as_ref().is_none_or(|grant| grant.served))?;
        let mut left = Settled::Nothing;
        if journal.slot.is_some() {
            match healthy >= self.policy.min_ready {
                true => self.leave()?,
                false => left = Settled::Proving,
            }
        }
        let Some(entry) = register.current(self.sha) else {
            return Ok(left);
        };
        if !entry.is_open() {
            self.note_end()?;
            return Ok(left);
        }
        if let Some(canary) = &self.policy.canary
            && entry.is_waiting_for(&self.member.node)
        {
            match healthy >= canary.bake {
                true => self.pass_canary()?,
                false => left = Settled::Proving,
            }
        }
        match is_first && left == Settled::Nothing {
            // The one who gives its slot back tries at once, the others now and then.
            true => self.finish_for_all(entry)?,
            false => self.keep_finishing(entry, heartbeat)?,
        }
        self.keep_count(&register, heartbeat)?;
        Ok(left)
    }

    /// Adds the time since the last good proof.
    fn count_health(&self, journal: &mut Journal) -> Result<Duration, RolloutError> {
        let before = journal
            .health
            .take()
            .filter(|health| health.sha == *self.sha);
        let gap = before
            .as_ref()
            .map_or(Duration::ZERO, |health| gap(health.last, self.now));
        let healthy = Duration::from_secs(before.map_or(0, |health| health.healthy_s)) + gap;
        journal.health = Some(JournaledHealth {
            sha: self.sha.clone(),
            healthy_s: healthy.as_secs(),
            last: self.now,
        });
        self.journals.save(journal)?;
        Ok(healthy)
    }

    /// Tries to end the entry now and then, while it is open: nobody else may be left to do it.
    fn keep_finishing(&self, entry: &Entry, heartbeat: Duration) -> Result<(), RolloutError> {
        let mut journal = self.journals.load()?;
        let last = journal.tried_to_finish;
        let is_due = last.is_none_or(|last| has_passed(heartbeat, last, self.now));
        if !is_due && !is_large(entry) {
            return Ok(());
        }
        journal.tried_to_finish = Some(self.now);
        self.journals.save(&journal)?;
        self.finish_for_all(entry)
    }

    /// Tries to end the entry. In a large fleet some hosts do it for all, in each pass: all hosts together about once a
    /// second.
    fn finish_for_all(&self, entry: &Entry) -> Result<(), RolloutError> {
        if !is_large(entry) || self.store.nonce().0 % hosts(entry) < FINISHERS {
            self.finish()?;
        }
        Ok(())
    }

    /// As [`Participant::keep_count`], of a host that waits, and has read the register just now.
    pub(super) fn keep_count_while_waiting(&self, heartbeat: Duration) -> Result<(), RolloutError> {
        let register = self.polling.register();
        register.map_or(Ok(()), |register| self.keep_count(&register, heartbeat))
    }
}

fn hosts(entry: &Entry) -> u64 {
    entry.count.map_or(1, |count| u64::from(count.hosts))
}

fn is_large(entry: &Entry) -> bool {
    hosts(entry) > LARGE_FLEET
}

/// The time between two proofs, as far as it counts. A clock that was set proves nothing either.
fn gap(last: Timestamp, now: Timestamp) -> Duration {
    let gap = Duration::try_from(now.duration_since(last)).unwrap_or_default();
    gap.min(MAX_GAP)
}
