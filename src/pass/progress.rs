//! Publishes what a pass is at with the apps of this host: that it deploys a release, that the release is on trial, and
//! that it failed. Without this, the fleet would show the end of the previous pass for as long as this one takes.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::Session;
use super::apps::{DeployedApp, deployed_apps};
use crate::apply::{self, AppliedResource, ApplyParams, Event};
use crate::exit::Exit;
use crate::fleet::{AppRecord, LastPass, RecordPublisher, ServingState};
use crate::ports::root::RootError;
use crate::report::Report;
use crate::resource::Verb;
use crate::role::Catalog;

/// How long a pass waits for the store at one of these steps.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(3);

/// What a pass is at with an app that it changes.
enum Phase {
    /// It began to, at this time.
    Deploying(Timestamp),
    /// Why the release failed, in one line.
    Failed(String),
}

/// Publishes the progress of one pass.
pub(super) struct Progress<'a> {
    session: &'a Session,
    catalog: &'a Catalog,
    /// `None`: nothing is published, or the store did not take it.
    publisher: Option<RecordPublisher<'a>>,
    started: Timestamp,
    phases: BTreeMap<String, Phase>,
    /// The pass in the record, before this one.
    before: Option<LastPass>,
}

impl Session {
    /// Carries out a plan, and publishes what it is at; not if the store did not answer.
    pub(super) fn apply<'a>(
        &'a self,
        params: ApplyParams<'a>,
        started: Timestamp,
        store_answers: bool,
    ) -> Result<(Vec<AppliedResource>, Progress<'a>), RootError> {
        let mut progress = Progress::new(self, params.catalog, started, store_answers);
        let on_event = params.on_event;
        let mut observe = |event: Event<'_>| {
            on_event(event);
            progress.observe(event);
        };
        let params = ApplyParams {
            on_event: &mut observe,
            ..params
        };
        let done = apply::apply(params, &self.host)?;
        Ok((done, progress))
    }
}

impl<'a> Progress<'a> {
    fn new(
        session: &'a Session,
        catalog: &'a Catalog,
        started: Timestamp,
        store_answers: bool,
    ) -> Progress<'a> {
        // A store that did not answer just now would only cost another timeout.
        let publisher = session.publisher().filter(|_| store_answers);
        Progress {
            session,
            catalog,
            before: publisher.as_ref().and_then(RecordPublisher::last_pass),
            publisher,
            started,
            phases: BTreeMap::new(),
        }
    }

    fn observe(&mut self, event: Event<'_>) {
        match event {
            Event::ChangeStarted { id, change } if change.verb == Verb::Deploy => {
                let now = self.session.host.clock.now();
                self.begin(id, |_| Phase::Deploying(now));
            }
            Event::TrialStarted { id } => {
                let started = self.started;
                self.begin(id, |before| before.unwrap_or(Phase::Deploying(started)));
            }
            Event::ReleaseFailed { id, why } => self.begin(id, |_| Phase::Failed(why.to_owned())),
            Event::ChangeStarted { .. }
            | Event::DutyStarted { .. }
            | Event::TrialProgress { .. } => {}
        }
    }

    /// Publishes that the app of this resource is in another phase.
    fn begin(&mut self, id: &str, phase: impl FnOnce(Option<Phase>) -> Phase) {
        if self.publisher.is_none() {
            return;
        }
        if let Some(app) = deployed_apps(self.catalog).find(|app| app.id == id) {
            let name = app.spec.app.clone();
            let before = self.phases.remove(&name);
            self.phases.insert(name, phase(before));
            let pass = LastPass {
                at: self.started,
                outcome: Exit::Pending,
                why: None,
            };
            self.publish(&pass, None);
        }
    }

    /// Publishes how a pass ended that does not describe all of the host, if it published any progress.
    pub(super) fn end(mut self, report: &Report) {
        if !self.phases.is_empty() {
            let of_this = LastPass {
                at: self.started,
                outcome: report.outcome,
                why: report.why(),
            };
            // This pass may not have looked at what the one before found.
            let is_wrong = |pass: &LastPass| {
                matches!(pass.outcome, Exit::Failed | Exit::BadInput | Exit::Stale)
            };
            let pass = self.before.take().filter(is_wrong).unwrap_or(of_this);
            self.publish(&pass, Some(report));
        }
    }

    fn publish(&mut self, pass: &LastPass, report: Option<&Report>) {
        let Some(publisher) = &self.publisher else {
            return;
        };
        let apps = deployed_apps(self.catalog).filter_map(|app| {
            let phase = self.phases.get(&app.spec.app)?;
            let record = match report {
                Some(report) => self.session.app_record(app, report.app(&app.spec.app)),
                None => self.record(app, phase),
            };
            Some((app.spec.app.clone(), record))
        });
        if !publisher.publish_progress(&apps.collect(), pass, PUBLISH_TIMEOUT) {
            self.publisher = None;
        }
    }

    fn record(&self, app: DeployedApp<'_>, phase: &Phase) -> AppRecord {
        let record = AppRecord {
            wanted: app.spec.wanted.clone(),
            ..self.session.app_record(app, None)
        };
        let is_proven = record.state == ServingState::Serving && record.actual == record.wanted;
        let (outcome, why) = match phase {
            Phase::Failed(why) => (Some(Exit::RolledBack), Some(why.clone())),
            // Its state says so.
            Phase::Deploying(_) if record.state == ServingState::OnTrial => {
                (Some(Exit::Pending), None)
            }
            Phase::Deploying(_) if is_proven => (None, None),
            Phase::Deploying(since) => (
                Some(Exit::Pending),
                Some(format!("deploying since {}", since.strftime("%F %T UTC"))),
            ),
        };
        AppRecord {
            outcome,
            why,
            ..record
        }
    }
}
