//! What operators do to a rollout by hand. Each command changes the objects by compare-and-swap, may be repeated, and
//! leaves its name and reason in the register.

use jiff::Timestamp;

use super::entry::HaltCause;
use super::identity::Nonce;
use super::mutation::{Mutation, is_active};
use super::object::{RolloutError, UnknownFields, VERSION};
use super::once::{OnceClaim, OnceOutcome, OnceResult};
use super::participant::swap_register;
use super::quarantine::Quarantine;
use super::register::{Act, Register, WantedShas};
use super::slot::{Slot, SlotHolder};
use super::store::{MAX_ATTEMPTS, RolloutStore, Swap, Versioned};
use crate::desired::{RolloutPolicy, Sha};
use crate::fleet::sanitize_line;
use crate::problem::Problem;

/// Signs a text; the result is a signature as objects have it.
pub(crate) type SignText<'a> = dyn Fn(&str) -> Result<String, Problem> + 'a;

/// An operator at the rollouts of one app.
pub(crate) struct Operator<'a, S> {
    pub store: &'a S,
    pub environment: &'a str,
    pub app: &'a str,
    /// The operator's name, for people.
    pub name: &'a str,
    pub reason: &'a str,
    /// By the operator's clock, for people.
    pub now: Timestamp,
    /// Signs a text; `None`: the act is not signed.
    pub sign: Option<&'a SignText<'a>>,
}

/// Why a command changed nothing, or not all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperatorError {
    #[error(transparent)]
    Rollout(#[from] RolloutError),
    /// Nobody holds the slot, or another write of its holder, or somebody else, came first.
    #[error("slot {number} is not held as it was any more: look at it again")]
    SlotChanged { number: u32 },
    /// The holder has claimed a step, and only an operator knows whether it ran.
    #[error("{node} has claimed the step `{step}`: say how it ended")]
    StepUnsettled { node: String, step: String },
    /// The claimer has taken its claim up again.
    #[error("{0} has taken its claim up again: look at it again")]
    ClaimChanged(String),
    /// The sha has no rollout that is under way.
    #[error("no rollout of {} is under way", .sha.short())]
    NotOpen { sha: Sha },
    /// The entry is halted for a cause that another command removes.
    #[error("the rollout is not halted in a way that can be resumed")]
    NotResumable,
}

type Outcome = Result<(), OperatorError>;

impl<S: RolloutStore> Operator<'_, S> {
    /// Frees the slot that `nonce` names. It was shown to the operator, so that a slot which has changed hands since
    /// stays as it is. `step`: how a step ended that its holder has claimed.
    ///
    /// The holder finds another nonce in the slot when it comes back, and a write of it that is still under way finds
    /// another version.
    pub(crate) fn break_slot(
        &self,
        number: u32,
        nonce: Nonce,
        step: Option<OnceOutcome>,
    ) -> Outcome {
        let found = self.store.slot(number)?;
        let Some((found, holder)) = held_by(found, nonce) else {
            return Err(OperatorError::SlotChanged { number });
        };
        let register = self.store.register()?.map(|found| found.object);
        let claim = register.and_then(|register| register.claim);
        let claim = claim.filter(|claim| claim.member == holder.member);
        let settled = match (claim, step) {
            (Some(claim), None) => {
                return Err(OperatorError::StepUnsettled {
                    node: claim.member.node,
                    step: claim.step,
                });
            }
            (claim, step) => claim.zip(step),
        };
        let free = Slot::free(self.store.nonce());
        if self.store.swap_slot(number, &free, Some(&found.etag))? == Swap::Conflict {
            return Err(OperatorError::SlotChanged { number });
        }
        if let Some((claim, outcome)) = settled {
            self.settle_claim(&claim, outcome)?;
        }
        let act = format!("break-slot {number} of {}", holder.member.node);
        self.update(&act, |_| {})
    }

    /// Counts the hosts of an open rollout again, as they do at each heartbeat. To be called before a slot is broken:
    /// with the number of slots of a larger fleet, the hosts that are left would all be out at a time. `gone`: a node that
    /// does not count any more.
    pub(crate) fn recount(&self, sha: &Sha, policy: &RolloutPolicy, gone: Option<&str>) -> Outcome {
        let register = self.store.register()?.map(|found| found.object);
        let current = register.as_ref().and_then(|register| register.current(sha));
        // The first count chooses the canaries, which only hosts do.
        let counted = current.filter(|entry| entry.is_open() && entry.count.is_some());
        let Some(entry) = counted else {
            return Ok(());
        };
        let mut hosts = self.store.hosts()?;
        hosts.retain(|host| gone != Some(&*host.node));
        let counted = super::count::count(&hosts, sha, policy, false, &entry.canaries);
        self.swap(|register| register.count(&entry.id, &counted, self.name))?;
        Ok(())
    }

    /// Lifts the quarantine of a sha, and clears the failures that led to it. Hosts on which it failed try again.
    pub(crate) fn lift_quarantine(&self, sha: &Sha) -> Outcome {
        let epoch = self.write_lift(sha)?;
        self.update(&format!("quarantine lift {}", sha.short()), |register| {
            register.lift_quarantine(sha, epoch);
        })
    }

    /// Returns the new epoch.
    fn write_lift(&self, sha: &Sha) -> Result<u32, RolloutError> {
        for _ in 0..MAX_ATTEMPTS {
            let found = self.store.quarantine(sha)?;
            let about = (
                self.store.nonce(),
                self.name.to_owned(),
                self.now,
                sanitize_line(self.reason),
            );
            let lifted = Quarantine::lifted(found.as_ref().map(|found| &found.object), about);
            let etag = found.as_ref().map(|found| &found.etag);
            if self.store.swap_quarantine(sha, &lifted, etag)? == Swap::Written {
                return Ok(lifted.epoch);
            }
        }
        Err(self.busy(format!("the quarantine of {}", sha.short())))
    }

    /// Lets all hosts go on without waiting for canaries.
    pub(crate) fn skip_canary(&self, sha: &Sha) -> Outcome {
        self.update_open(sha, "skip-canary", |register| register.skip_canary(sha))
    }

    /// Lets hosts go on without waiting for the apps of `after`.
    pub(crate) fn skip_after(&self, sha: &Sha) -> Outcome {
        self.update_open(sha, "skip-after", |register| register.skip_after(sha))
    }

    /// Ends the rollout without a host.
    pub(crate) fn ignore(&self, sha: &Sha, node: &str) -> Outcome {
        let act = format!("ignore {node}");
        self.update_open(sha, &act, |register| register.ignore(sha, node))
    }

    /// Lets a rollout go on whose environment works again. A quarantine has to be lifted, a step to be resolved and
    /// missing canaries to be skipped instead.
    pub(crate) fn resume(&self, sha: &Sha) -> Outcome {
        const CAUSES: &[HaltCause] = &[HaltCause::Environment, HaltCause::Other];
        let register = self.store.register()?.map(|found| found.object);
        let current = register.as_ref().and_then(|register| register.current(sha));
        let halt = current.and_then(|entry| entry.halt.as_ref());
        if halt.is_some_and(|halt| !CAUSES.contains(&halt.cause)) {
            return Err(OperatorError::NotResumable);
        }
        self.update_open(sha, "resume", |register| register.resume(sha, CAUSES))
    }

    /// Says how a step ended that one host runs for all, and settles the claim to run it. `shown`: the claim that was
    /// shown to the operator; if its claimer came back since, nothing changes.
    pub(crate) fn resolve_step(
        &self,
        sha: &Sha,
        step: &str,
        outcome: OnceOutcome,
        shown: Option<Nonce>,
    ) -> Outcome {
        let register = self.store.register()?.map(|found| found.object);
        let claim = register.and_then(|register| register.claim);
        match claim.filter(|claim| claim.step == step && claim.entry.sha == *sha) {
            Some(claim) if shown == Some(claim.claim) => self.settle_claim(&claim, outcome)?,
            Some(claim) => return Err(OperatorError::ClaimChanged(claim.member.node)),
            None => self.write_result(sha, step, outcome)?,
        }
        self.update(
            &format!("once {step} --resolve of {}", sha.short()),
            |register| {
                if outcome != OnceOutcome::Failed {
                    register.resume(sha, &[HaltCause::OnceStep]);
                }
            },
        )
    }

    /// Takes the claim over, writes the result, and ends the claim: between the two nobody else can claim the step, and
    /// its claimer runs it no more.
    fn settle_claim(&self, claim: &OnceClaim, outcome: OnceOutcome) -> Outcome {
        let own = self.store.nonce();
        let register = self.swap(|register| register.take_claim_over(claim.claim, own))?;
        if register.claim.is_none_or(|held| held.claim != own) {
            return Err(OperatorError::ClaimChanged(claim.member.node.clone()));
        }
        self.write_result(&claim.entry.sha, &claim.step, outcome)?;
        self.swap(|register| register.release_claim(|held| held.claim == own))?;
        Ok(())
    }

    fn write_result(
        &self,
        sha: &Sha,
        step: &str,
        outcome: OnceOutcome,
    ) -> Result<(), RolloutError> {
        for _ in 0..MAX_ATTEMPTS {
            let found = self.store.once(sha, step)?;
            let before = found.as_ref().map(|found| &found.object);
            let has_succeeded = |before: &OnceResult| before.outcome == OnceOutcome::Succeeded;
            // The claimer recorded it before it went away: nobody runs the step again.
            if before.is_some_and(has_succeeded) {
                return Ok(());
            }
            let result = OnceResult {
                version: VERSION,
                nonce: self.store.nonce(),
                outcome,
                attempt: before.map_or(0, |before| before.attempt),
                by: self.name.to_owned(),
                at: self.now,
                log_tail: sanitize_line(self.reason),
                unknown: before
                    .map_or_else(UnknownFields::default, |before| before.unknown.clone()),
            };
            let etag = found.as_ref().map(|found| &found.etag);
            if self.store.swap_once(sha, step, &result, etag)? == Swap::Written {
                return Ok(());
            }
        }
        Err(self.busy(format!("the result of the step `{step}`")))
    }

    /// A node does not come back: its failures are listed no more.
    pub(crate) fn forget(&self, node: &str) -> Outcome {
        self.swap(|register| register.unlist_node(node))?;
        Ok(())
    }

    /// Follows a manifest that is older than the register.
    pub(crate) fn reset(&self, wanted: &WantedShas) -> Outcome {
        self.update("reset", |register| register.reset(wanted))
    }

    /// Keeps an act in the history that changes something else than the rollouts.
    pub(crate) fn record_act(&self, act: &str) -> Result<(), RolloutError> {
        self.add_act(act, |_| {})
    }

    fn update_open(&self, sha: &Sha, act: &str, change: impl Fn(&mut Register)) -> Outcome {
        let register = self.store.register()?.map(|found| found.object);
        let current = register.as_ref().and_then(|register| register.current(sha));
        if !current.is_some_and(|entry| entry.is_open()) {
            return Err(OperatorError::NotOpen { sha: sha.clone() });
        }
        self.update(&format!("{act} of {}", sha.short()), change)
    }

    /// Changes the register, and keeps the act in it.
    fn update(&self, act: &str, change: impl Fn(&mut Register)) -> Outcome {
        Ok(self.add_act(act, change)?)
    }

    fn add_act(&self, act: &str, change: impl Fn(&mut Register)) -> Result<(), RolloutError> {
        let mut act = Act {
            at: self.now,
            by: sanitize_line(self.name),
            what: sanitize_line(act),
            reason: sanitize_line(self.reason),
            signature: None,
        };
        if let Some(sign) = self.sign {
            match sign(&act.signed_text(self.environment, self.app)) {
                Ok(signature) => act.signature = Some(signature),
                // What it records has happened.
                Err(problem) => tracing::warn!("the act is not signed: {problem}"),
            }
        }
        self.swap(|register| {
            change(register);
            register.add_act(act.clone());
        })?;
        Ok(())
    }

    fn swap(&self, change: impl Fn(&mut Register)) -> Result<Register, RolloutError> {
        let absent = Register::new(self.environment, self.app);
        swap_register(self.store, &absent, change, false)
    }

    fn busy(&self, key: String) -> RolloutError {
        RolloutError::Busy {
            key,
            attempts: MAX_ATTEMPTS,
        }
    }
}

/// A slot and its holder, if it is held by the write with this nonce.
fn held_by(found: Option<Versioned<Slot>>, nonce: Nonce) -> Option<(Versioned<Slot>, SlotHolder)> {
    let is_same = |slot: &Slot| slot.nonce == nonce || is_active(Mutation::BreakWithoutNonce);
    let found = found.filter(|found| is_same(&found.object))?;
    let holder = found.object.holder.clone()?;
    Some((found, holder))
}
