//! One host: what a pass, and the waiting between two of them, does around the protocol (`pass`, `cli/converge.rs`).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::bucket::Client;
use super::fleet::{APP, ENVIRONMENT, Fleet, MANIFEST, TICK};
use super::random::Random;
use super::timeline::Sleep;
use crate::desired::{Manifest, Sha};
use crate::exit::Exit;
use crate::fleet::rollout::count::COUNT_TIMEOUT;
use crate::fleet::rollout::decide::Obstacle;
use crate::fleet::rollout::identity::Member;
use crate::fleet::rollout::journal::{Journal, JournalStore};
use crate::fleet::rollout::object::RolloutError;
use crate::fleet::rollout::objects::{RolloutContext, StoreObjects};
use crate::fleet::rollout::participant::{Participant, Permit};
use crate::fleet::rollout::polling::Polling;
use crate::fleet::rollout::register::WantedShas;
use crate::fleet::rollout::settle::{AppPosition, Settled};
use crate::fleet::{NodeRecord, ServingState, record_key};
use crate::ports::permission::Purpose;
use crate::ports::store::{Etag, GetOutcome, PutOutcome, Store, WriteCondition};
use crate::settings::FleetSettings;

/// A pass without its requests.
const PASS: Duration = Duration::from_millis(200);

/// To fetch and build a release.
pub(super) const BUILD: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(30));

/// Of the time out of service: until the balancers have noticed, and until the gate has passed. 20 s in the mean.
pub(super) const DRAIN: Duration = Duration::from_secs(8);
pub(super) const GATE: (Duration, Duration) = (Duration::from_secs(7), Duration::from_secs(17));
pub(super) const OUTAGE: Duration = Duration::from_secs(20);

/// As in the waiting of a pass.
const PROOF_INTERVAL: Duration = Duration::from_secs(3);
const PASS_INTERVAL: Duration = Duration::from_secs(15);
const MAX_WAIT: Duration = Duration::from_secs(600);
const LOOK_IS_GOOD_FOR: Duration = Duration::from_secs(5);
const COUNTING_ATTEMPTS: u32 = 10;
const COUNTING_INTERVAL: Duration = Duration::from_millis(500);
const LONGEST_COUNTING_INTERVAL: Duration = Duration::from_secs(2);

/// What is on the disk of a host.
struct Disk(RefCell<Journal>);

impl JournalStore for Disk {
    fn load(&self) -> Result<Journal, RolloutError> {
        Ok(self.0.borrow().clone())
    }

    fn save(&self, journal: &Journal) -> Result<(), RolloutError> {
        *self.0.borrow_mut() = journal.clone();
        Ok(())
    }
}

/// The record of the host in the store.
struct Published {
    record: NodeRecord,
    etag: Etag,
    /// When the next heartbeat is due.
    due: Duration,
}

/// A host while the simulation runs.
pub(super) struct Host<'a> {
    fleet: Rc<Fleet>,
    client: Client<'a>,
    member: Member,
    disk: Disk,
    active: RefCell<Sha>,
    built: RefCell<Option<Sha>>,
    manifest: RefCell<(Option<Etag>, WantedShas)>,
    published: RefCell<Published>,
    settings: FleetSettings,
    /// What the last request was denied for.
    denied: Cell<bool>,
    waits_for: RefCell<Option<String>>,
    is_proving: Cell<bool>,
    looked_at: Cell<Duration>,
    polling: Polling,
}

/// A request that was denied, or a store that does not answer: the pass is over.
struct PassOver;

impl<'a> Host<'a> {
    pub(super) fn new(fleet: &Rc<Fleet>, number: u32, sleep: &'a Sleep<'a>) -> Host<'a> {
        let member = fleet.member(number);
        let record = fleet.record(&member.node);
        let etag = fleet.bucket.peek(&record_key(ENVIRONMENT, &member.node));
        Host {
            client: Client {
                bucket: fleet.bucket.clone(),
                sleep,
                random: Random::new(u64::from(number)),
            },
            disk: Disk(RefCell::new(fleet.first_journal())),
            active: RefCell::new(fleet.old.clone()),
            built: RefCell::default(),
            manifest: RefCell::new((None, fleet.wanted_before())),
            published: RefCell::new(Published {
                record,
                etag: etag.map_or_else(Etag::nonexistent, |object| object.etag),
                due: Duration::ZERO,
            }),
            settings: FleetSettings::default(),
            denied: Cell::new(false),
            waits_for: RefCell::default(),
            is_proving: Cell::new(false),
            looked_at: Cell::default(),
            polling: Polling::at(number.wrapping_mul(2_654_435_761)),
            member,
            fleet: fleet.clone(),
        }
    }

    /// Runs for ever: the timer's runs, with the passes of each.
    pub(super) fn live(&self) {
        // Hosts booted at different times, and sent their last heartbeats then.
        let heartbeat = self.settings.heartbeat();
        self.published.borrow_mut().due = self.random().within(TICK, heartbeat);
        self.sleep_for(self.random().within(Duration::ZERO, TICK));
        loop {
            let started = self.now();
            loop {
                self.pass();
                if self.now() - started >= MAX_WAIT || !self.wait() {
                    break;
                }
            }
            self.sleep_for(TICK);
        }
    }

    fn now(&self) -> Duration {
        self.fleet.clock.elapsed()
    }

    fn random(&self) -> &Random {
        &self.client.random
    }

    fn sleep_for(&self, length: Duration) {
        self.client.sleep.sleep(length);
    }

    fn pass(&self) {
        self.denied.set(false);
        self.waits_for.replace(None);
        self.is_proving.set(false);
        if self.read_manifest().is_none() {
            self.fleet.count_error("the manifest cannot be read");
            return;
        }
        self.sleep_for(PASS);
        let sha = self.wanted().shas[0].clone();
        if *self.active.borrow() != sha && self.deploy(&sha).is_err() && !self.denied.get() {
            let why = self.waits_for.borrow().clone();
            self.fleet.count_error(why.unwrap_or_default());
        }
        self.publish(self.describe());
        let position = match *self.active.borrow() == sha {
            true => AppPosition::Wanted,
            false => AppPosition::Other,
        };
        let heartbeat = self.settings.heartbeat();
        let settled = self.with(|participant| {
            let left = participant.settle(position, &|| true, heartbeat)?;
            if self.denied.get() {
                participant.keep_count_while_waiting(heartbeat)?;
            }
            Ok(left)
        });
        match settled {
            Ok(Settled::Proving) => self.is_proving.set(true),
            Ok(_) => {}
            Err(error) => self.fleet.count_error(error),
        }
    }

    fn wanted(&self) -> WantedShas {
        self.manifest.borrow().1.clone()
    }

    /// `None`: the store did not answer.
    fn read_manifest(&self) -> Option<()> {
        let known = self.manifest.borrow().0.clone();
        let GetOutcome::Object(found) = self.client.get(MANIFEST, known.as_ref()).ok()? else {
            return Some(());
        };
        let manifest = Manifest::parse(MANIFEST, &found.body).expect("the manifest is valid");
        let environment = &manifest.environments[ENVIRONMENT];
        let entry = environment.entry(APP).expect("it is there").expect("valid");
        let wanted = WantedShas {
            generation: manifest.generation_of(ENVIRONMENT).unwrap_or(0),
            shas: entry.wanted_shas().into_iter().collect(),
            hold: None,
        };
        self.manifest.replace((Some(found.etag), wanted));
        Some(())
    }

    fn with<T>(
        &self,
        act: impl FnOnce(&Participant<'_, StoreObjects<'_>, Disk>) -> Result<T, RolloutError>,
    ) -> Result<T, RolloutError> {
        let fleet = &self.fleet;
        let objects = StoreObjects {
            store: &self.client,
            context: RolloutContext {
                root: Some(&fleet.root),
                environment: ENVIRONMENT,
                store_name: "simulated",
                manifest_key: MANIFEST,
                fleet: &self.settings,
                signers: None,
            },
            app: APP,
            canary: fleet.policy.canary.as_ref(),
            ignores_hold: false,
            observer: None,
        };
        let wanted = self.wanted();
        act(&Participant {
            store: &objects,
            journals: &self.disk,
            member: &self.member,
            environment: ENVIRONMENT,
            app: APP,
            policy: &fleet.policy,
            sha: &wanted.shas[0],
            wanted: &wanted,
            group: None,
            now: fleet.clock.now(),
            polling: &self.polling,
            count_timeout: COUNT_TIMEOUT,
        })
    }

    fn peek(&self) -> Result<(), PassOver> {
        self.answer(self.with(|participant| participant.peek(Purpose::Deploy, true)))
    }

    fn request(&self) -> Result<(), PassOver> {
        for _ in 1..COUNTING_ATTEMPTS {
            self.looked_at.set(self.now());
            let permit = self.with(|participant| participant.request(Purpose::Deploy, true));
            let is_counting = matches!(permit, Ok(Permit::Denied(Obstacle::Counting)));
            if !is_counting || self.polling.interval() > LONGEST_COUNTING_INTERVAL {
                return self.answer(permit);
            }
            self.sleep_for(COUNTING_INTERVAL);
        }
        self.denied.set(true);
        Err(PassOver)
    }

    fn confirm(&self) -> Result<(), PassOver> {
        if self.now() - self.looked_at.get() <= LOOK_IS_GOOD_FOR {
            return Ok(());
        }
        self.looked_at.set(self.now());
        self.answer(self.with(|participant| participant.confirm(Purpose::Deploy, true)))
    }

    fn answer(&self, permit: Result<Permit, RolloutError>) -> Result<(), PassOver> {
        match permit {
            Ok(Permit::Granted) => {
                self.denied.set(false);
                return Ok(());
            }
            Ok(Permit::Denied(obstacle)) => {
                self.denied.set(obstacle.passes_by_itself());
                let sha = self.fleet.new.clone();
                self.waits_for
                    .replace(Some(obstacle.remedy(&sha).waits_for));
            }
            Err(error) => {
                self.denied.set(false);
                self.waits_for.replace(Some(error.to_string()));
            }
        }
        Err(PassOver)
    }

    fn deploy(&self, sha: &Sha) -> Result<(), PassOver> {
        if self.built.borrow().as_ref() == Some(sha) {
            self.peek()?;
        } else {
            self.publish_progress(Exit::Pending, ServingState::Serving);
            self.sleep_for(self.random().within(BUILD.0, BUILD.1));
            self.built.replace(Some(sha.clone()));
        }
        self.request()?;
        self.confirm()?;
        let others_serve = self.with(|participant| participant.others_serve());
        if let Err(error) = others_serve {
            self.fleet.count_error(error);
        }
        self.fleet.take_out();
        self.sleep_for(DRAIN);
        if let Err(over) = self.confirm() {
            self.fleet.bring_back();
            return Err(over);
        }
        self.publish_progress(Exit::Pending, ServingState::OnTrial);
        self.sleep_for(self.random().within(GATE.0, GATE.1));
        self.active.replace(sha.clone());
        self.fleet.bring_back();
        self.fleet.count_switched();
        Ok(())
    }

    /// The record at the end of a pass.
    fn describe(&self) -> NodeRecord {
        let is_right = *self.active.borrow() == self.wanted().shas[0];
        let outcome = match is_right {
            true => Exit::Converged,
            false => Exit::Pending,
        };
        self.record(
            outcome,
            ServingState::Serving,
            self.waits_for.borrow().clone(),
        )
    }

    fn record(&self, outcome: Exit, state: ServingState, why: Option<String>) -> NodeRecord {
        let mut record = self.published.borrow().record.clone();
        let wanted = self.wanted();
        record.generation = Some(wanted.generation);
        record.last_pass.outcome = outcome;
        record.last_pass.why.clone_from(&why);
        if let Some(app) = record.apps.get_mut(APP) {
            app.wanted = wanted.shas.into_iter().next();
            app.actual = Some(self.active.borrow().clone());
            app.served = state == ServingState::OnTrial;
            app.state = state;
            app.why = why;
        }
        record
    }

    fn publish_progress(&self, outcome: Exit, state: ServingState) {
        self.write(self.record(outcome, state, None));
    }

    fn publish(&self, record: NodeRecord) {
        let is_same = self.published.borrow().record.same_content(&record);
        if !is_same || self.now() >= self.published.borrow().due {
            self.write(record);
        }
    }

    fn write(&self, record: NodeRecord) {
        let key = record_key(ENVIRONMENT, &self.member.node);
        let etag = self.published.borrow().etag.clone();
        let when = WriteCondition::Matches(&etag);
        match self.client.put(&key, &record.to_json(), when) {
            Ok(PutOutcome::Written(etag)) => {
                let due = self.now() + self.settings.heartbeat();
                self.published.replace(Published { record, etag, due });
            }
            Ok(PutOutcome::Conflict) => self.fleet.count_error("somebody else wrote the record"),
            Err(error) => self.fleet.count_error(error),
        }
    }

    /// Waits as `Session::wait_for_rollouts` does. Returns whether another pass has something to do.
    fn wait(&self) -> bool {
        let is_proving = self.is_proving.get();
        if !self.denied.get() && !is_proving {
            return false;
        }
        let started = self.now();
        loop {
            let interval = match is_proving {
                true => PROOF_INTERVAL,
                false => self.polling.interval(),
            };
            self.sleep_for(self.random().within(interval / 2, interval * 3 / 2));
            if is_proving
                || self.now() - started >= PASS_INTERVAL
                || self.peek().is_ok()
                || !self.denied.get()
            {
                return true;
            }
        }
    }
}
