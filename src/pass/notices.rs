//! Notices of what a pass has found or brought about. They are noted before the pass ends, and sent after it has: nothing
//! here fails or delays it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use jiff::SignedDuration;

use super::Session;
use super::apps::{DeployedApp, deployed_apps};
use super::joined::AppNotices;
use crate::desired::{DesiredApp, DesiredState, Freshness, POLICY_APP, Transition};
use crate::fleet::rollout::{AppPosition, HostRollout, Register, marks_prefix};
use crate::notify::{
    AppMemory, ChannelHealth, Courier, Delivery, DeliveryStep, MAX_AGE, News, Notice, Observation,
    OwnResult, Subject, Wanted, hold_ended, implied_ids, known_hold, manifest_notices, own_notices,
    published_id, published_key, register_notices,
};
use crate::ports::random::random_u64;
use crate::ports::store::{Budget, Store};
use crate::report::{History, Report};
use crate::role::Catalog;

/// How long all notices of a pass may take together. One that hangs delays the next pass by no more than that, once.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// What remains of it for the store after the last message, to record that it is sent.
const RECORD_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the store may take to list the hosts that are done. A message goes without them as well.
const LIST_TIMEOUT: Duration = Duration::from_secs(1);

/// Less is not enough for a message.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(500);

/// How long hosts leave a notice to the one that brought it about; and how many of them look a second, after that.
const LEFT_TO_OWNER: SignedDuration = SignedDuration::from_secs(15);
const LOOKS_PER_SECOND: u64 = 20;
const SHORTEST_SPREAD_S: u64 = 45;

/// How long a failure waits for others of the same cause.
const FAILURE_GATHERS: SignedDuration = SignedDuration::from_secs(20);

/// What there may be news of.
struct NewsSource<'a> {
    name: &'a str,
    /// `None`: the policy bundle.
    app: Option<DeployedApp<'a>>,
    /// `None`: the manifest does not want it.
    wanted: Option<DesiredApp>,
    /// `None`: each host goes for itself.
    rollout: Option<Rc<HostRollout>>,
}

impl Session {
    /// Notes what is new to this host. To be called before the summary of the pass is saved: the one of before says when
    /// this host last looked.
    pub(super) fn note_news(&self, catalog: &Catalog, desired: &DesiredState, report: &Report) {
        self.notices.take();
        let channels = self.usable_channels(desired);
        if desired.freshness != Freshness::Fresh {
            return;
        }
        let sources = match channels.is_empty() {
            true => Vec::new(),
            false => self.news_sources(catalog, desired),
        };
        let names = sources.iter().map(|source| source.name).collect();
        if let Err(error) = AppMemory::forget_others(&self.host.root, &names) {
            tracing::warn!("notices of before: {error}");
        }
        if sources.is_empty() {
            return;
        }
        let now = self.host.clock.now();
        let last = History::new(&self.host).last();
        let answered = last.and_then(|last| last.store_answered);
        let was_away = answered.is_none_or(|at| now.duration_since(at) > MAX_AGE);
        for source in &sources {
            let name = source.name;
            // A pass that goes over a hold does not see what the manifest wants.
            let Some(wanted) = source.wanted.as_ref().filter(|app| !app.ignores_hold) else {
                continue;
            };
            let scope = (&*self.settings.store.url, &*self.settings.environment);
            let mut memory = AppMemory::load(&self.host.root, name, scope);
            let before = memory.clone();
            let (observation, hosts) = self.observe(source, wanted, desired, &memory, report);
            let news = |notice: &Notice, is_own: bool| News {
                channels: channels
                    .iter()
                    .filter(|channel| desired.notify.wants(channel, notice.transition))
                    .cloned()
                    .collect(),
                delay: self.notice_delay(notice.transition, is_own, hosts),
            };
            memory.notice(observation, (now, was_away), &news);
            if memory != before
                && let Err(error) = memory.save(&self.host.root, name)
            {
                tracing::warn!("{name}: its notices: {error}");
            }
            self.notices.borrow_mut().push(AppNotices {
                app: name.to_owned(),
                memory,
            });
        }
    }

    /// The apps of this host and its policy bundle.
    fn news_sources<'a>(
        &self,
        catalog: &'a Catalog,
        desired: &DesiredState,
    ) -> Vec<NewsSource<'a>> {
        let rollouts = self.rollouts.borrow();
        let rollout_of = |name: &str| {
            let mut joined = rollouts.apps.iter();
            let joined = joined.find(|joined| joined.rollout.app == name)?;
            Some(joined.rollout.clone())
        };
        let apps = deployed_apps(catalog).map(|app| NewsSource {
            name: &app.spec.app,
            app: Some(app),
            wanted: desired.apps.get(&app.spec.app).cloned(),
            rollout: rollout_of(&app.spec.app),
        });
        let policy = self.policy.borrow();
        let bundle = policy.wanted.clone().map(|wanted| NewsSource {
            name: POLICY_APP,
            app: None,
            wanted: Some(wanted),
            rollout: policy.rollout.clone(),
        });
        apps.chain(bundle).collect()
    }

    /// The channels of this host that the manifest names.
    fn usable_channels(&self, desired: &DesiredState) -> BTreeSet<String> {
        let known = &self.settings.notify.channels;
        let named = desired.notify.channels();
        let usable = named.filter(|name| known.contains_key(*name));
        usable.map(str::to_owned).collect()
    }

    /// How long this host leaves a notice to others: the more hosts there are, the longer.
    fn notice_delay(&self, transition: Transition, is_own: bool, hosts: u64) -> SignedDuration {
        let gathers = match transition {
            Transition::Failed if !self.settings.store.is_local() => FAILURE_GATHERS,
            _ => SignedDuration::ZERO,
        };
        if is_own || self.settings.store.is_local() {
            return gathers;
        }
        let spread = SHORTEST_SPREAD_S.max(hosts / LOOKS_PER_SECOND);
        let jitter = random_u64() % (spread * 1000);
        let jitter = SignedDuration::from_millis(i64::try_from(jitter).unwrap_or(0));
        LEFT_TO_OWNER.max(gathers) + jitter
    }

    /// What this pass knows of an app, and how many hosts have it.
    fn observe(
        &self,
        source: &NewsSource<'_>,
        wanted: &DesiredApp,
        desired: &DesiredState,
        memory: &AppMemory,
        report: &Report,
    ) -> (Observation, u64) {
        let name = source.name;
        let store_time = self
            .shared_store()
            .ok()
            .and_then(|store| store.server_time());
        let subject = Subject {
            environment: &self.settings.environment,
            app: name,
            node: self.node(),
            now: store_time.unwrap_or_else(|| self.host.clock.now()),
        };
        let own_result = || self.own_result(source, wanted, report);
        let change = desired.change.as_ref();
        let wanted = Wanted::of(name, wanted, desired.generation, change);
        let hold = wanted.hold.as_ref().map(known_hold);
        let ended = memory.known_hold().filter(|_| hold.is_none());
        let mut observation = Observation {
            manifest: manifest_notices(subject, &wanted),
            hold_ended: ended.map(|(id, hold)| hold_ended(subject, &wanted, hold, id)),
            hold,
            published_key: published_key(&wanted),
            store_time,
            implied: implied_ids(&wanted),
            ..Observation::default()
        };
        let Some(rollout) = &source.rollout else {
            observation.register = Some(own_notices(subject, &wanted, &own_result()));
            return (observation, 1);
        };
        observation.own = own_ids(subject, &wanted, rollout);
        let register = rollout.observer.last();
        let entry = register
            .as_ref()
            .and_then(|register| register.current(&wanted.sha));
        observation.opened = entry.map(|entry| entry.opened);
        let count = entry.and_then(|entry| entry.count);
        let of_register = |register: &Register| register_notices(subject, &wanted, register);
        observation.register = register.as_ref().map(of_register);
        (observation, count.map_or(1, |count| count.hosts.into()))
    }

    /// How it does on a host that goes by itself.
    fn own_result(
        &self,
        source: &NewsSource<'_>,
        wanted: &DesiredApp,
        report: &Report,
    ) -> OwnResult {
        let Some(app) = source.app else {
            return self.policy_result();
        };
        let position = self.position(app.spec, &wanted.sha);
        let is_proven = position == AppPosition::Wanted;
        let failure = match is_proven {
            true => None,
            false => self.local_failure(app.id, app.spec, &wanted.sha, report),
        };
        OwnResult {
            is_proven,
            failure: failure.map(|failure| (failure.stage, failure.reason, failure.log_tail)),
        }
    }

    /// Sends what is due. The caller holds the lock; the report is out.
    pub(crate) fn send_notices(&self) {
        let mut noted = self.notices.take();
        let now = self.host.clock.now();
        if !noted.iter().any(|noted| noted.memory.is_due(now)) {
            return;
        }
        let Ok(store) = self.shared_store() else {
            return;
        };
        let budget = Budget::new(&**store, &*self.host.clock, SEND_TIMEOUT);
        let sender = Sender {
            session: self,
            budget: &budget,
            courier: Courier {
                host: &self.host,
                lookup: &self.settings.lookup,
            },
            health: RefCell::new(ChannelHealth::load(&self.host.root)),
        };
        let before = sender.health.borrow().clone();
        for noted in &mut noted {
            let mut save = |memory: &AppMemory| {
                if let Err(error) = memory.save(&self.host.root, &noted.app) {
                    tracing::warn!("{}: its notices: {error}", noted.app);
                }
            };
            let mut delivery = Delivery {
                store: &budget,
                environment: &self.settings.environment,
                app: &noted.app,
                node: self.node(),
                clock: &*self.host.clock,
                random: &random_u64,
                is_ready: &|channel| sender.is_ready(channel),
                send: &mut |channel, notice| sender.send(channel, notice),
                save: &mut save,
            };
            if let Err(error) = delivery.run(&mut noted.memory) {
                tracing::warn!("{}: its notices: {error}", noted.app);
            }
        }
        let health = sender.health.into_inner();
        if health != before
            && let Err(error) = health.save(&self.host.root)
        {
            tracing::warn!("how the channels do: {error}");
        }
    }

    /// Adds who sends it, and how far the rollout is: one LIST, for the host that sends alone.
    fn complete(&self, notice: &Notice, store: &dyn Store) -> Notice {
        let mut notice = notice.clone();
        self.node().clone_into(&mut notice.node);
        let is_open = matches!(
            notice.transition,
            Transition::Halted | Transition::RolledBack | Transition::Failed | Transition::CanaryOk
        );
        if let (true, Some(hosts), Some(sha)) = (is_open, &mut notice.hosts, &notice.to) {
            let prefix = marks_prefix(&notice.environment, &notice.app, Some(sha));
            let marks = store.list_within(LIST_TIMEOUT, &prefix);
            hosts.done = marks.ok().map(|marks| marks.len());
        }
        notice
    }
}

/// Sends the notices of one pass.
struct Sender<'a> {
    session: &'a Session,
    budget: &'a Budget<'a>,
    courier: Courier<'a>,
    health: RefCell<ChannelHealth>,
}

impl Sender<'_> {
    /// Whether this host has the channel, and it does not rest.
    fn is_ready(&self, channel: &str) -> bool {
        let now = self.session.host.clock.now();
        let known = &self.session.settings.notify.channels;
        known.contains_key(channel) && self.health.borrow().rest(channel, now).is_none()
    }

    /// The time for a message; `None`: it is not enough.
    fn left(&self) -> Option<Duration> {
        let left = self.budget.left().saturating_sub(RECORD_TIMEOUT);
        Some(left).filter(|left| *left >= SHORTEST_TIMEOUT)
    }

    fn send(&self, name: &str, notice: &Notice) -> DeliveryStep {
        let host = &self.session.host;
        let channel = self.session.settings.notify.channels.get(name);
        let may_send = self.left().is_some() && self.is_ready(name) && !host.stop.is_set();
        let Some(channel) = channel.filter(|_| may_send) else {
            return DeliveryStep::NotTried;
        };
        let notice = self.session.complete(notice, self.budget);
        let Some(left) = self.left() else {
            return DeliveryStep::NotTried;
        };
        let sent = self.courier.deliver(channel, &notice, left);
        if sent.is_err() && host.stop.is_set() {
            // Whoever stopped trueup ended it, not the channel.
            return DeliveryStep::NotTried;
        }
        let result = sent.as_ref().map(drop);
        let result = result.map_err(|problem| problem.message.as_str());
        self.health
            .borrow_mut()
            .record(name, result, host.clock.now());
        match &sent {
            Ok(answer) => {
                tracing::info!(target: "progress", "{}: notified {name}: {answer}", notice.summary);
                DeliveryStep::Sent
            }
            Err(problem) => {
                tracing::warn!("{}: {name} was not notified: {problem}", notice.summary);
                DeliveryStep::Failed
            }
        }
    }
}

/// The ids of what the writes of this host have brought about.
fn own_ids(subject: Subject<'_>, wanted: &Wanted, rollout: &HostRollout) -> BTreeSet<String> {
    let ids = |register: &Register| -> BTreeSet<String> {
        let notices = register_notices(subject, wanted, register);
        notices.into_iter().map(|notice| notice.id).collect()
    };
    let is_open = |register: &Register| register.current(&wanted.sha).is_some();
    let mut own = BTreeSet::new();
    for write in rollout.observer.writes() {
        let before = write.before.as_ref();
        let known = before.map_or_else(BTreeSet::new, ids);
        own.extend(ids(&write.after).difference(&known).cloned());
        let opens = is_open(&write.after) && !before.is_some_and(is_open);
        if opens && wanted.sha == wanted.published {
            // Nobody acts on a new sha earlier.
            own.insert(published_id(wanted));
        }
    }
    own
}
