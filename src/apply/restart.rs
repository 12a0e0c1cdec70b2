//! A restart of the services of an app that an operator asks for. It restarts what a new release would restart, in the
//! same order and with the same records, so that no later pass restarts it again; but it deploys nothing.

use std::collections::BTreeMap;

use super::services::service_checks;
use super::{Applier, Event, resource_span};
use crate::kind::ServiceProcesses;
use crate::owed::Obligation;
use crate::plan::Plan;
use crate::ports::Host;
use crate::ports::root::RootError;
use crate::ports::services::ActiveState;
use crate::release::{self, ActiveRelease, ReleaseSpec};
use crate::resource::{Duty, ExpectedState, Failure, Trial, TrialOutcome};
use crate::role::{Catalog, Resource};

/// The inputs of [`restart`] besides the host.
pub(crate) struct RestartParams<'a> {
    pub catalog: &'a Catalog,
    pub plan: &'a Plan,
    /// The resource that deploys the app.
    pub resource: &'a Resource,
    pub spec: &'a ReleaseSpec,
    /// What the services run from.
    pub release: &'a ActiveRelease,
    /// The services to restart, in the order of a pass.
    pub services: &'a [&'a Resource],
    /// Who asks for it.
    pub by: &'a str,
    pub on_event: &'a mut dyn FnMut(Event<'_>),
}

const MASKED: &str = "an operator masked it; `systemctl unmask` lets it run again";

/// What happened to one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServiceRestart {
    Done(Duty),
    /// It does not run, and need not.
    Skipped(&'static str),
    /// An operator has to let it run.
    Waiting(&'static str),
    Failed(Failure),
    /// trueup was asked to stop before.
    Stopped,
}

/// What a restart led to.
pub(crate) struct AppRestart {
    /// By the id of the resource, in order.
    pub services: Vec<(String, ServiceRestart)>,
    /// Whether the app serves then; `None`: nothing was restarted.
    pub health: Option<TrialOutcome>,
}

/// Restarts services, and waits until the app serves. `Err` means that trueup's own bookkeeping failed.
pub(crate) fn restart(params: RestartParams<'_>, host: &Host) -> Result<AppRestart, RootError> {
    let trial = Trial {
        release: params.release.name.clone(),
        crashed: None,
        deploy_to: params.spec.layout().deploy_to().to_owned(),
        current: params.spec.layout().current(),
    };
    let sha = params.release.sha.as_ref().map(ToString::to_string);
    let shas: BTreeMap<String, String> = sha
        .map(|sha| (params.spec.app.clone(), sha))
        .into_iter()
        .collect();
    let mut applier = Applier::new(params.catalog, params.plan, host, params.on_event);
    let mut results = Vec::new();
    let mut restarted = Vec::new();
    for resource in params.services {
        let Some(service) = resource.body.service() else {
            continue;
        };
        let _span = resource_span(resource, params.catalog, &shas).entered();
        let result = applier.restart_service(resource, service, params.resource, params.by)?;
        if matches!(result, ServiceRestart::Done(_)) {
            restarted.push((*resource, service));
        }
        results.push((resource.id.clone(), result));
    }
    let health = match restarted.is_empty() {
        true => None,
        false => {
            let _span = resource_span(params.resource, params.catalog, &shas).entered();
            let resources: Vec<&Resource> =
                restarted.iter().map(|(resource, _)| *resource).collect();
            let mut check_services = service_checks(restarted, &trial, host);
            let runs_as = || params.catalog.runs_as(&params.resource.id, host);
            let sha = params.release.sha.as_ref();
            let outcome =
                release::poll_restarted(params.spec, host, sha, &mut check_services, &runs_as);
            Some(applier.settle(params.resource, &resources, outcome)?)
        }
    };
    if release::is_drained(params.spec, host) {
        release::return_from_drain(params.spec, host);
    }
    Ok(AppRestart {
        services: results,
        health,
    })
}

impl<'a> Applier<'a> {
    fn restart_service(
        &mut self,
        resource: &'a Resource,
        service: &dyn ServiceProcesses,
        release: &Resource,
        by: &str,
    ) -> Result<ServiceRestart, RootError> {
        if self.host.stop.is_set() {
            return Ok(ServiceRestart::Stopped);
        }
        let summary = match service.summary(self.host) {
            Ok(summary) => summary,
            Err(failure) => return Ok(ServiceRestart::Failed(failure)),
        };
        let runs = summary.active == ActiveState::Running;
        match summary.expected {
            ExpectedState::Masked => {
                return Ok(ServiceRestart::Waiting(MASKED));
            }
            ExpectedState::Stopped => {
                return Ok(ServiceRestart::Skipped("its role says that it is stopped"));
            }
            ExpectedState::Any if summary.active == ActiveState::Stopped => {
                return Ok(ServiceRestart::Skipped(
                    "it is stopped, and its role leaves it so",
                ));
            }
            ExpectedState::Any | ExpectedState::Running | ExpectedState::AwaitsRelease => {}
        }
        let duty = match runs {
            true if resource.restarts_with(&release.id) => Duty::Restart,
            true => Duty::Reload,
            // Also starts one that failed.
            false => Duty::Restart,
        };
        // What the service will read has to pass its checks, as before a restart by a pass.
        let triggers = resource.triggers.iter();
        let causes = triggers.flat_map(|trigger| trigger.on.clone()).collect();
        let checked = Obligation { duty, causes };
        if let Err(failure) = self.validation.require_passing(&checked, self.host) {
            return Ok(ServiceRestart::Failed(failure));
        }
        if self.drain_before(resource, duty).is_err() {
            return Ok(ServiceRestart::Stopped);
        }
        let obligation = Obligation {
            duty,
            causes: vec![format!("a request of {by}")],
        };
        Ok(match self.perform(resource, &obligation) {
            Ok((done, _)) => {
                self.record_fulfilled(resource, &done)?;
                ServiceRestart::Done(duty)
            }
            Err(failure) => ServiceRestart::Failed(failure),
        })
    }

    /// Completes the outcome: with what the services printed, and with what the next pass has to do.
    fn settle(
        &self,
        resource: &Resource,
        restarted: &[&Resource],
        outcome: TrialOutcome,
    ) -> Result<TrialOutcome, RootError> {
        Ok(match outcome {
            TrialOutcome::Failed(failure) => {
                TrialOutcome::Failed(self.with_log_tails(resource, failure))
            }
            TrialOutcome::Conflict(failure) => {
                for service in restarted {
                    self.record_owed_restart(service, resource)?;
                }
                TrialOutcome::Conflict(failure)
            }
            outcome => outcome,
        })
    }
}
