//! The rollouts of one app, as the release pipeline of a host sees them: it asks for permission and says how it ended.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::access::{forget_access, forget_refusal, may_take_part_lately};
use super::count::COUNT_TIMEOUT;
use super::decide::Obstacle;
use super::fleet_host::FleetHost;
use super::journal::JournalStore;
use super::journal_file::JournalFile;
use super::object::RolloutError;
use super::objects::{StoreObjects, is_refusal};
use super::observer::RegisterObserver;
use super::once::OnceOutcome;
use super::once_step::StepPermit;
use super::participant::{Participant, Permit};
use super::polling::Polling;
use super::register::WantedShas;
use super::store::RolloutStore;
use crate::desired::{RolloutPolicy, Sha};
use crate::ports::backoff;
use crate::ports::clock;
use crate::ports::permission::{Permission, PermitDecision, Purpose, StepDecision};

/// The part that this host takes in the rollouts of one app.
pub(crate) struct HostRollout {
    pub host: Rc<FleetHost>,
    pub app: String,
    pub policy: RolloutPolicy,
    /// The sha that the manifest wants of this host.
    pub sha: Sha,
    pub wanted: WantedShas,
    /// This host's value of the tag of `per`.
    pub group: Option<String>,
    /// An operator on this host goes over the holds of the manifest in this pass.
    pub ignores_hold: bool,
    /// When this host last asked, since its boot.
    pub looked_at: Cell<Duration>,
    /// The last request, if it was denied for now: what for, and whether this host serves.
    pub denied: Cell<Option<(Purpose, bool)>>,
    pub polling: Polling,
    pub observer: RegisterObserver,
}

/// How often, and with which pauses, a request is repeated while another host counts.
const COUNTING_ATTEMPTS: u32 = 10;
const COUNTING_INTERVAL: Duration = Duration::from_millis(500);

/// The hosts of a fleet that waits for longer between two requests would ask too much in this way, and it takes longer to
/// count them.
const LONGEST_COUNTING_INTERVAL: Duration = Duration::from_secs(2);

/// How old an answer may be at a step after which there is no way back but a rollback.
const LOOK_IS_GOOD_FOR: Duration = Duration::from_secs(5);

type HostParticipant<'a> = Participant<'a, StoreObjects<'a>, JournalFile<'a>>;

impl HostRollout {
    /// Acts as this host in its rollouts.
    pub(super) fn with<T>(
        &self,
        act: impl FnOnce(&HostParticipant<'_>) -> Result<T, RolloutError>,
    ) -> Result<T, RolloutError> {
        let host = &*self.host;
        let canary = self.policy.canary.as_ref();
        let objects = StoreObjects {
            observer: Some(&self.observer),
            ..host.objects(&self.app, canary, self.ignores_hold)
        };
        act(&Participant {
            store: &objects,
            journals: &JournalFile::new(&host.root, &self.app),
            member: &host.member,
            environment: &host.environment,
            app: &self.app,
            policy: &self.policy,
            sha: &self.sha,
            wanted: &self.wanted,
            group: self.group.as_deref(),
            now: host.clock.now(),
            polling: &self.polling,
            count_timeout: COUNT_TIMEOUT,
        })
    }

    /// The answer to a request. Keeps in mind what this host waits for, if other hosts make it go away: then it asks
    /// again soon, and otherwise with the next pass of the timer.
    fn answer(
        &self,
        asked: (Purpose, bool),
        permit: Result<Permit, RolloutError>,
    ) -> PermitDecision {
        let is_short = |obstacle: &Obstacle| obstacle.passes_by_itself();
        let waits_for_others =
            matches!(&permit, Ok(Permit::Denied(obstacle)) if is_short(obstacle));
        self.denied.set(waits_for_others.then_some(asked));
        match permit {
            Ok(Permit::Granted) => PermitDecision::Granted,
            Ok(Permit::Denied(Obstacle::Quarantined { by, reason })) => {
                PermitDecision::Refused(format!("it failed on {by}: {reason}"))
            }
            Ok(Permit::Denied(obstacle)) => PermitDecision::Wait(self.describe(&obstacle)),
            Err(error) if is_refusal(&error) => {
                forget_access(&self.host.root);
                match self.is_done() {
                    // It cannot say how it ends, so it goes when that decides nothing any more.
                    true => PermitDecision::Granted,
                    false => PermitDecision::Wait(self.explain(&error)),
                }
            }
            Err(error) => PermitDecision::Wait(self.explain(&error)),
        }
    }

    /// Whether this host may write what it owes to the rollout, as far as it is known: refused writes of each pass would
    /// cost as much as those that work.
    pub(crate) fn may_write(&self) -> bool {
        let times = (self.host.clock.now(), self.host.fleet.heartbeat());
        let known = may_take_part_lately(
            &self.host.root,
            &*self.host.store,
            &self.host.environment,
            times,
        );
        known.unwrap_or(true)
    }

    /// Whether all other hosts have the wanted sha.
    fn is_done(&self) -> bool {
        let found = self.with(|participant| participant.store.register());
        let register = found.ok().flatten().map(|found| found.object);
        let entry = register
            .as_ref()
            .and_then(|register| register.current(&self.sha));
        entry.is_some_and(|entry| entry.was_done)
    }

    /// Whether this host waits for permission.
    pub(crate) fn is_waiting(&self) -> bool {
        self.denied.get().is_some()
    }

    /// Asks again. Returns whether it need not wait any longer: it may go on, or waits for an operator instead.
    pub(crate) fn ends_wait(&self) -> bool {
        if let Some((purpose, serves)) = self.denied.get() {
            self.peek(purpose, serves);
        }
        self.denied.get().is_none()
    }

    /// What this host waits for, and what mends it.
    fn describe(&self, obstacle: &Obstacle) -> String {
        let remedy = obstacle.remedy(&self.sha);
        match obstacle.passes_by_itself() {
            true => remedy.waits_for,
            false => remedy.describe(&self.host.environment, &self.app),
        }
    }

    /// Why this host can take no part now.
    fn explain(&self, error: &RolloutError) -> String {
        match is_refusal(error) {
            true => format!(
                "this host may take no part in the rollout: {error}; it goes once all others have the sha"
            ),
            false => {
                let hint = error
                    .hint()
                    .map_or(String::new(), |hint| format!("; {hint}"));
                format!("it cannot ask for permission: {error}{hint}")
            }
        }
    }
}

impl Permission for HostRollout {
    fn peek(&self, purpose: Purpose, serves: bool) -> PermitDecision {
        if self.host.is_cut_off {
            return without_store(purpose);
        }
        let permit = self.with(|participant| participant.peek(purpose, serves));
        self.answer((purpose, serves), permit)
    }

    fn request(&self, purpose: Purpose, serves: bool) -> PermitDecision {
        if self.host.is_cut_off {
            return without_store(purpose);
        }
        let ask = || {
            self.looked_at.set(clock::boot_time());
            self.with(|participant| participant.request(purpose, serves))
        };
        let mut permit = ask();
        for _ in 1..COUNTING_ATTEMPTS {
            if !matches!(permit, Ok(Permit::Denied(Obstacle::Counting))) {
                break;
            }
            if self.polling.interval() > LONGEST_COUNTING_INTERVAL {
                break;
            }
            // Another host counts, which takes moments: no reason for this pass to end without the sha.
            backoff::sleep(COUNTING_INTERVAL);
            permit = ask();
        }
        if matches!(permit, Ok(Permit::Granted)) {
            forget_refusal(&self.host.root);
        }
        self.answer((purpose, serves), permit)
    }

    fn confirm(&self, purpose: Purpose, serves: bool) -> PermitDecision {
        if self.host.is_cut_off {
            return without_store(purpose);
        }
        let now = clock::boot_time();
        if now.saturating_sub(self.looked_at.get()) <= LOOK_IS_GOOD_FOR {
            return PermitDecision::Granted;
        }
        self.looked_at.set(now);
        let permit = self.with(|participant| participant.confirm(purpose, serves));
        self.answer((purpose, serves), permit)
    }

    fn others_serve(&self) -> Option<bool> {
        let known = self.with(|participant| participant.others_serve());
        known.ok().flatten()
    }

    fn claim_step(&self, step: &str) -> StepDecision {
        let claimed = self.with(|participant| participant.claim_step(step));
        // It asks for permission again once another host has run the step.
        let waits_for_others =
            matches!(&claimed, Ok(StepPermit::Denied(obstacle)) if obstacle.passes_by_itself());
        self.denied
            .set(waits_for_others.then_some((Purpose::Deploy, true)));
        match claimed {
            Ok(StepPermit::Run { attempt }) => StepDecision::Run { attempt },
            Ok(StepPermit::Succeeded) => StepDecision::Succeeded,
            Ok(StepPermit::Denied(obstacle @ Obstacle::StepFailed { .. })) => {
                StepDecision::Failed(self.describe(&obstacle))
            }
            Ok(StepPermit::Denied(obstacle)) => StepDecision::Wait(self.describe(&obstacle)),
            Err(error) => StepDecision::Wait(self.explain(&error)),
        }
    }

    fn record_step(&self, succeeded: bool, log_tail: &str) -> Result<(), String> {
        let outcome = match succeeded {
            true => OnceOutcome::Succeeded,
            false => OnceOutcome::Failed,
        };
        match self.with(|participant| participant.record_step(outcome, log_tail)) {
            Ok(is_recorded) if is_recorded || !succeeded => Ok(()),
            Ok(_) => Err("an operator has settled the step meanwhile".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn note_failure(&self, reason: &str, log_tail: &str) -> Result<(), String> {
        self.with(|participant| {
            let grant = participant.journals.load()?.grant;
            let served = grant.is_some_and(|grant| grant.served);
            participant.note_failure(reason, log_tail, served)
        })
        .map_err(|error| error.to_string())
    }
}

/// The answer while the store does not answer. An operator who goes back on this host has decided it, and an outage is no
/// time to be kept from it: nothing else asks for the way back without a store.
fn without_store(purpose: Purpose) -> PermitDecision {
    match purpose {
        Purpose::Back => PermitDecision::Granted,
        Purpose::Deploy | Purpose::Repeat | Purpose::Restart => {
            PermitDecision::Wait("it cannot ask for permission: the store does not answer".into())
        }
    }
}
