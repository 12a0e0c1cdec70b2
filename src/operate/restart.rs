//! A restart of an app that an operator asks for: what it did, and whether the app serves.

use serde::Serialize;

use crate::apply::{AppRestart, Event, ServiceRestart};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::pass::Session;
use crate::release::{self, SelectionError};
use crate::resource::{Duty, Failure, TrialOutcome};

/// The document of `restart --output`.
#[derive(Debug, Serialize)]
pub(crate) struct RestartReport {
    version: u32,
    pub app: String,
    pub outcome: Exit,
    /// The active release, which the services run from.
    pub release: String,
    /// The release has not passed its gate yet: the next pass decides.
    pub on_trial: bool,
    pub services: Vec<RestartRow>,
    /// Whether its processes run from the release and its health check passes; `null`: nothing was restarted, or it is
    /// unknown.
    pub serves: Option<bool>,
    /// Why it does not serve.
    pub why: Option<String>,
    pub hint: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct RestartRow {
    pub id: String,
    pub result: RestartResult,
    pub why: Option<String>,
    pub hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RestartResult {
    Restarted,
    Reloaded,
    Skipped,
    Waiting,
    Failed,
    Stopped,
}

/// Restarts the services of the process `process` of an app, or all that run from it. The caller holds the lock.
pub(crate) fn restart(
    session: &Session,
    name: &str,
    process: Option<&str>,
    by: &str,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<RestartReport, CommandError> {
    let apps = session.apps()?;
    let app = apps.find(name)?;
    let services = apps.select_services(app, process)?;
    let spec = app.spec;
    let active = release::active(&session.host, &spec.layout(), spec.keep_releases)?;
    let active = active.ok_or_else(|| SelectionError::NoneActive {
        app: spec.app.clone(),
    })?;
    let done = session.restart(&apps, app, &active, &services, by, on_event)?;
    Ok(RestartReport::new(
        &spec.app,
        active.name,
        active.trial.is_some(),
        done,
    ))
}

impl RestartReport {
    fn new(app: &str, release: String, on_trial: bool, done: AppRestart) -> RestartReport {
        let rows = done.services.into_iter();
        let services: Vec<RestartRow> = rows
            .map(|(id, result)| RestartRow::new(id, result))
            .collect();
        let is_polled = done.health.is_some();
        let (outcome, failure) = match done.health {
            None | Some(TrialOutcome::Passed) => (Exit::Converged, None),
            Some(TrialOutcome::Stopped) => (Exit::Stopped, None),
            Some(TrialOutcome::Failed(failure) | TrialOutcome::Conflict(failure)) => {
                (Exit::Failed, Some(failure))
            }
        };
        // Those that came up say nothing about the others.
        let is_whole = services
            .iter()
            .all(|row| row.result.outcome() == Exit::Converged);
        let is_known = match outcome {
            Exit::Converged => is_polled && is_whole,
            outcome => outcome != Exit::Stopped,
        };
        let serves = is_known.then_some(outcome == Exit::Converged);
        let outcomes = services.iter().map(|row| row.result.outcome());
        let (why, hint) = failure.map(text_of).unzip();
        RestartReport {
            version: crate::report::VERSION,
            app: app.to_owned(),
            outcome: outcomes.fold(outcome, Exit::merge),
            release,
            on_trial,
            services,
            serves,
            why,
            hint: hint.flatten(),
        }
    }
}

impl RestartRow {
    fn new(id: String, result: ServiceRestart) -> RestartRow {
        let (result, why, hint) = match result {
            ServiceRestart::Done(Duty::Reload) => (RestartResult::Reloaded, None, None),
            ServiceRestart::Done(_) => (RestartResult::Restarted, None, None),
            ServiceRestart::Skipped(why) => (RestartResult::Skipped, Some(why.to_owned()), None),
            ServiceRestart::Waiting(why) => (RestartResult::Waiting, Some(why.to_owned()), None),
            ServiceRestart::Failed(failure) => {
                let (why, hint) = text_of(failure);
                (RestartResult::Failed, Some(why), hint)
            }
            ServiceRestart::Stopped => (RestartResult::Stopped, None, None),
        };
        RestartRow {
            id,
            result,
            why,
            hint,
        }
    }
}

impl RestartResult {
    pub(crate) fn is_done(self) -> bool {
        matches!(self, RestartResult::Restarted | RestartResult::Reloaded)
    }

    fn outcome(self) -> Exit {
        match self {
            RestartResult::Restarted | RestartResult::Reloaded | RestartResult::Skipped => {
                Exit::Converged
            }
            RestartResult::Waiting => Exit::Waiting,
            RestartResult::Failed => Exit::Failed,
            RestartResult::Stopped => Exit::Stopped,
        }
    }
}

fn text_of(failure: Failure) -> (String, Option<String>) {
    (failure.message, failure.hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_ends_as_its_worst_service_or_as_the_health_check() {
        use ServiceRestart::{Done, Failed, Skipped, Stopped, Waiting};
        let broken = || Failure::new("it exited with 1");
        let passed = || Some(TrialOutcome::Passed);
        let restarted = Done(Duty::Restart);
        for (services, health, outcome, serves) in [
            (
                vec![restarted.clone()],
                passed(),
                Exit::Converged,
                Some(true),
            ),
            (
                vec![Done(Duty::Reload), Skipped("")],
                passed(),
                Exit::Converged,
                Some(true),
            ),
            (vec![Skipped("")], None, Exit::Converged, None),
            (
                vec![restarted.clone(), Waiting("")],
                passed(),
                Exit::Waiting,
                None,
            ),
            (
                vec![restarted.clone(), Failed(broken())],
                passed(),
                Exit::Failed,
                None,
            ),
            (
                vec![restarted.clone()],
                Some(TrialOutcome::Failed(broken())),
                Exit::Failed,
                Some(false),
            ),
            (
                vec![restarted.clone()],
                Some(TrialOutcome::Conflict(broken())),
                Exit::Failed,
                Some(false),
            ),
            (
                vec![restarted, Stopped],
                Some(TrialOutcome::Stopped),
                Exit::Stopped,
                None,
            ),
        ] {
            let services = services
                .into_iter()
                .map(|result| ("service:web".to_owned(), result));
            let done = AppRestart {
                services: services.collect(),
                health,
            };
            let report = RestartReport::new("shop", "20261121050000".into(), false, done);
            assert_eq!(
                (report.outcome, report.serves),
                (outcome, serves),
                "{report:?}"
            );
        }
    }
}
