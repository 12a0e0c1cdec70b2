//! Publishes what a pass is at with the apps of this host: that it deploys a release, that the release is on trial, and
//! that it failed. Without this, the fleet would show the end of the previous pass for as long as this one takes.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::Session;
use super::apps::{DeployedApp, deployed_apps};
use crate::apply::{self, AppliedResource, ApplyParams, Event};
use crate::exit::Exit;
use crate::fleet::{AppRecord, LastPass, NodeRecord, RecordPublisher, ServingState};
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
    /// The release failed; with the reason, in one line.
    Failed(Exit, String),
}

/// Publishes the progress of one pass.
pub(super) struct Progress<'a> {
    session: &'a Session,
    catalog: &'a Catalog,
    /// `None`: nothing is published, or the store did not take it.
    publisher: Option<RecordPublisher<'a>>,
    started: Timestamp,
    phases: BTreeMap<String, Phase>,
    /// The record that the store has from before this pass.
    before: Option<NodeRecord>,
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
            before: publisher.as_ref().and_then(RecordPublisher::last_record),
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
            Event::ReleaseFailed { id, why, is_bad } => {
                let outcome = match is_bad {
                    true => Exit::RolledBack,
                    false => Exit::Failed,
                };
                self.begin(id, |_| Phase::Failed(outcome, why.to_owned()));
            }
            Event::ChangeStarted { .. }
            | Event::DutyStarted { .. }
            | Event::DutyFulfilled { .. }
            | Event::TrialProgress { .. } => {}
        }
    }

    /// Publishes that the app of this resource is in another phase.
    fn begin(&mut self, id: &str, phase: impl FnOnce(Option<Phase>) -> Phase) {
        if self.publisher.is_none() {
            return;
        }
        let Some(app) = deployed_apps(self.catalog).find(|app| app.id == id) else {
            return;
        };
        let before = self.phases.remove(&app.spec.app);
        let is_first = before.is_none();
        let phase = phase(before);
        let is_known = is_first && self.is_known(app, &phase);
        // A failure that comes before any change is the pass's own, which ends with it.
        let is_early = is_first && matches!(phase, Phase::Failed(..));
        if is_known || is_early {
            return;
        }
        self.phases.insert(app.spec.app.clone(), phase);
        let pass = LastPass {
            at: self.started,
            outcome: Exit::Pending,
            why: None,
        };
        self.publish(&pass, None);
    }

    /// Whether the record of before shows the app on the same trial, or that the same release failed. A release that has
    /// none to go back to stays on trial, and a failed one is tried again: each pass would write that several times.
    fn is_known(&self, app: DeployedApp<'_>, phase: &Phase) -> bool {
        let before = self.before.as_ref();
        let before = before.and_then(|record| record.apps.get(&app.spec.app));
        before.is_some_and(|before| {
            let now = self.record(app, phase);
            let has_failed = matches!(before.outcome, Some(Exit::Failed | Exit::RolledBack));
            let is_on_trial =
                before.state == ServingState::OnTrial && now.state == ServingState::OnTrial;
            (has_failed || is_on_trial)
                && (&before.actual, &before.wanted) == (&now.actual, &now.wanted)
        })
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
            let before = self.before.take().map(|record| record.last_pass);
            let pass = before.filter(is_wrong).unwrap_or(of_this);
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
            Phase::Failed(outcome, why) => (Some(*outcome), Some(why.clone())),
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
