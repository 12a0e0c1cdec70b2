//! Steps that one host runs for all: claiming one, and recording how it ended.

use super::decide::Obstacle;
use super::entry::HaltRecord;
use super::journal::{Grant, Journal, JournalStore, JournaledClaim, StepEnd};
use super::mutation::{Mutation, is_active};
use super::object::{RolloutError, UnknownFields, VERSION};
use super::once::{OnceClaim, OnceOutcome, OnceResult};
use super::participant::Participant;
use super::register::Register;
use super::store::{MAX_ATTEMPTS, RolloutStore, Swap};

/// The answer to a claim.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum StepPermit {
    /// This host runs it, for the n-th time for this sha.
    Run {
        attempt: u32,
    },
    /// Its success is recorded.
    Succeeded,
    Denied(Obstacle),
}

impl<S: RolloutStore, N: JournalStore> Participant<'_, S, N> {
    /// Asks whether this host runs a step for all. The caller has permission to activate.
    pub(crate) fn claim_step(&self, step: &str) -> Result<StepPermit, RolloutError> {
        let mut journal = self.journals.load()?;
        self.settle_step(&mut journal)?;
        if let Some(answer) = self.step_result(step)? {
            self.drop_claim(&mut journal)?;
            return Ok(answer);
        }
        let Some(grant) = journal.grant.clone() else {
            return Ok(StepPermit::Denied(Obstacle::SlotBroken));
        };
        let is_same = |claim: &JournaledClaim| claim.step == step && claim.entry == grant.entry;
        if journal.claim.as_ref().is_some_and(|claim| !is_same(claim)) {
            self.drop_claim(&mut journal)?;
        }
        let own = self.next_claim(journal.claim.take(), &grant, step)?;
        let claim = OnceClaim {
            step: step.to_owned(),
            entry: grant.entry,
            member: self.member.clone(),
            claim: own.claim,
            since: self.now,
        };
        let replaces = own.replaces;
        journal.claim = Some(own);
        // Before the write, so that a host which is killed takes its own claim up again.
        self.journals.save(&journal)?;
        let register = self.update_register(|register| register.claim(&claim, replaces))?;
        if let Some(obstacle) = obstacle_to_claim(&register, &claim) {
            let held = register.claim.as_ref();
            let is_own = |own: &JournaledClaim| held.is_some_and(|held| own.is(held));
            if journal.claim.as_ref().is_some_and(is_own) {
                // The one that it took up again: its entry is over.
                self.drop_claim(&mut journal)?;
            } else {
                journal.claim = None;
                self.journals.save(&journal)?;
            }
            return Ok(StepPermit::Denied(obstacle));
        }
        // Another host may have recorded its success between the first read and the claim.
        let second = match is_active(Mutation::ClaimWithoutSecondRead) {
            true => None,
            false => self.step_result(step)?,
        };
        if let Some(answer) = second {
            self.drop_claim(&mut journal)?;
            return Ok(answer);
        }
        let before = self.store.once(self.sha, step)?;
        let before = before.map_or(0, |found| found.object.attempt);
        journal.step_runs = journal.step_runs.saturating_add(1);
        self.journals.save(&journal)?;
        Ok(StepPermit::Run {
            attempt: before.saturating_add(journal.step_runs),
        })
    }

    /// The claim to write. One that an earlier pass has won gets another nonce; one that may still be under way, and one
    /// that it replaces, keep theirs.
    fn next_claim(
        &self,
        own: Option<JournaledClaim>,
        grant: &Grant,
        step: &str,
    ) -> Result<JournaledClaim, RolloutError> {
        let register = match own {
            Some(_) => self.store.register()?.map(|found| found.object),
            None => None,
        };
        let held = register.and_then(|register| register.claim);
        let is_won = |own: &JournaledClaim| held.is_some_and(|held| held.claim == own.claim);
        let replaces = match own {
            Some(own) if is_won(&own) => Some(own.claim),
            Some(own) => return Ok(own),
            None => None,
        };
        Ok(JournaledClaim {
            claim: self.store.nonce(),
            replaces,
            entry: grant.entry.clone(),
            step: step.to_owned(),
            ended: None,
        })
    }

    fn step_result(&self, step: &str) -> Result<Option<StepPermit>, RolloutError> {
        let found = self.store.once(self.sha, step)?.map(|found| found.object);
        Ok(found.and_then(|result| match result.outcome {
            OnceOutcome::Succeeded => Some(StepPermit::Succeeded),
            OnceOutcome::Failed => Some(StepPermit::Denied(Obstacle::StepFailed {
                step: step.to_owned(),
                log_tail: result.log_tail,
            })),
            OnceOutcome::Retry => None,
        }))
    }

    /// Records how the step ended that this host ran. Returns whether its success is recorded, without which nobody
    /// goes on: an operator may have settled the claim meanwhile, and wants another run.
    pub(crate) fn record_step(
        &self,
        outcome: OnceOutcome,
        log_tail: &str,
    ) -> Result<bool, RolloutError> {
        let mut journal = self.journals.load()?;
        if let Some(claim) = &mut journal.claim {
            claim.ended = Some(StepEnd {
                outcome,
                log_tail: log_tail.to_owned(),
            });
            self.journals.save(&journal)?;
            return self.settle_step(&mut journal);
        }
        Ok(false)
    }

    /// Writes the result of a step that has ended: first the result, then the end of the claim, so that nobody runs
    /// the step between the two. Returns whether it recorded a success.
    pub(super) fn settle_step(&self, journal: &mut Journal) -> Result<bool, RolloutError> {
        let Some((claim, end)) = journal
            .claim
            .as_ref()
            .and_then(|claim| Some((claim.clone(), claim.ended.clone()?)))
        else {
            return Ok(false);
        };
        let register = self.store.register()?.map(|found| found.object);
        let held = register.and_then(|register| register.claim);
        // An operator may have settled the claim: the result is that one's then, and a failure halts nothing.
        let is_held = held.is_some_and(|held| claim.is(&held));
        let runs = journal.step_runs;
        if is_active(Mutation::ClaimReleasedBeforeResult) {
            self.drop_claim(journal)?;
        }
        if is_held {
            self.write_result(&claim, &end, runs)?;
            if end.outcome == OnceOutcome::Failed {
                let halt = HaltRecord::of_step(&claim.step, &self.member.node);
                self.update_register(|register| register.halt(&claim.entry, halt.clone()))?;
            }
        }
        self.drop_claim(journal)?;
        Ok(is_held && end.outcome == OnceOutcome::Succeeded)
    }

    /// Ends a claim of this host whose step does not run now, so that nobody waits for a host that may not go on itself
    /// (a canary needs the step of the new sha, and the claimer of the old one waits for the canary). The next run has
    /// a higher number.
    pub(super) fn interrupt_step(&self, journal: &mut Journal) -> Result<(), RolloutError> {
        let runs = journal.step_runs;
        let Some(claim) = &mut journal.claim else {
            return Ok(());
        };
        if is_active(Mutation::ClaimKeptWhileBlocked) {
            return Ok(());
        }
        if runs == 0 {
            return self.drop_claim(journal);
        }
        claim.ended = Some(StepEnd {
            outcome: OnceOutcome::Retry,
            log_tail: String::new(),
        });
        self.journals.save(journal)?;
        self.settle_step(journal)?;
        Ok(())
    }

    fn write_result(
        &self,
        claim: &JournaledClaim,
        end: &StepEnd,
        runs: u32,
    ) -> Result<(), RolloutError> {
        let sha = &claim.entry.sha;
        for _ in 0..MAX_ATTEMPTS {
            let found = self.store.once(sha, &claim.step)?;
            let before = found.as_ref().map(|found| &found.object);
            if before.is_some_and(|before| before.outcome == OnceOutcome::Succeeded) {
                return Ok(());
            }
            let result = OnceResult {
                version: VERSION,
                nonce: self.store.nonce(),
                outcome: end.outcome,
                attempt: before
                    .map_or(0, |before| before.attempt)
                    .saturating_add(runs),
                by: self.member.node.clone(),
                at: self.now,
                log_tail: end.log_tail.clone(),
                unknown: before
                    .map_or_else(UnknownFields::default, |before| before.unknown.clone()),
            };
            let etag = found.as_ref().map(|found| &found.etag);
            if self.store.swap_once(sha, &claim.step, &result, etag)? == Swap::Written {
                return Ok(());
            }
        }
        Err(RolloutError::Busy {
            key: format!("the result of the step `{}`", claim.step),
            attempts: MAX_ATTEMPTS,
        })
    }

    /// Ends the claim of this host, if it has one.
    pub(super) fn drop_claim(&self, journal: &mut Journal) -> Result<(), RolloutError> {
        if let Some(claim) = &journal.claim {
            let claim = claim.clone();
            // Also if the register does not have it: a claim whose answer was lost must find another version.
            self.rewrite_register(|register| register.release_claim(|held| claim.is(held)))?;
            journal.claim = None;
            journal.step_runs = 0;
            self.journals.save(journal)?;
        }
        Ok(())
    }
}

/// Why a claim was not accepted, if it was not.
fn obstacle_to_claim(register: &Register, claim: &OnceClaim) -> Option<Obstacle> {
    match &register.claim {
        Some(held) if held.claim == claim.claim => None,
        Some(other) => Some(Obstacle::Claimed {
            node: other.member.node.clone(),
            step: other.step.clone(),
            sha: other.entry.sha.clone(),
        }),
        None => {
            let entry = register.entry(&claim.entry);
            let halt = entry.filter(|entry| entry.is_open());
            let halt = halt.and_then(|entry| entry.halt.clone());
            Some(halt.map_or(Obstacle::OldManifest, Obstacle::Halted))
        }
    }
}
