//! The `service` kind: enabled, running, and restarted or reloaded when a dependency changed.

mod haproxy;
mod listening;
mod processes;
mod reload;
mod running_release;
mod spec;
mod state;

use crate::kind::{
    self, Condition, Diff, Kind, ServiceCondition, ServiceProcesses as _, Triggered,
};
use crate::ports::Host;
use crate::ports::services::{ActiveState, EnabledState, ServiceStatus};
use crate::problem::Problem;
use crate::resource::{
    ApplyOutcome, Change, Duty, DutyOutcome, Failure, FieldChange, FieldValue, ResolveInputs,
    ServiceRun, Trigger, Verb, Withheld,
};
use spec::service_manager;
use state::ServiceState;

pub(crate) use spec::ServiceSpec;

pub(super) struct Service;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServiceAction {
    /// Enable or disable it, start or stop it; `None`: leave that as it is.
    Set {
        enable: Option<bool>,
        run: Option<RunAction>,
    },
    /// Wait for the operator who masked it.
    LeaveMasked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunAction {
    Start,
    /// It crashes again and again by a definition that has been replaced since.
    Restart,
    Stop,
}

impl Kind for Service {
    const NAME: &'static str = "service";
    const ABOUT: &'static str = "A service: enabled, running, and restarted or reloaded once after its dependencies changed.";
    const EXAMPLE: &'static str = "service: {name: demo, enabled: true, running: true}";

    type Spec = ServiceSpec;
    type State = ServiceState;
    type Action = ServiceAction;

    fn subject(spec: &ServiceSpec) -> String {
        spec.name.clone()
    }

    fn resolve(spec: &mut ServiceSpec, _inputs: &dyn ResolveInputs) -> Result<(), Problem> {
        if spec.name.ends_with(".socket") && !spec.proves.listens.is_empty() {
            let problem = Problem::new("a socket of systemd has no process that listens");
            return Err(problem
                .field("proves")
                .hint("say it of the service that the socket starts"));
        }
        if spec.coordinated {
            spec.validate_coordinated()?;
        }
        spec.runtime.validate()
    }

    fn inspect(spec: &ServiceSpec, host: &Host) -> Result<ServiceState, Failure> {
        ServiceState::inspect(spec, host)
    }

    fn diff(spec: &ServiceSpec, state: &ServiceState) -> Option<Diff<ServiceAction>> {
        let status = &state.status;
        if is_masked_but_wanted(spec, status) || state.is_service_masked {
            let change = Change::new(Verb::Update)
                .with_field("masked", FieldValue::value(true), FieldValue::value(false))
                .withheld(Withheld::OnHold(MASKED.to_owned()));
            return Some(Diff::new(ServiceAction::LeaveMasked, change));
        }
        let enabled = match status.enabled {
            EnabledState::Yes => Some(true),
            EnabledState::No => Some(false),
            // A static unit cannot be enabled; a masked one must not be.
            EnabledState::Static | EnabledState::Masked => None,
        };
        let enable = spec
            .enabled
            .filter(|wanted| enabled.is_some_and(|is| is != *wanted));
        let is_running = matches!(status.active, ActiveState::Running | ActiveState::Starting);
        let run = match spec.running {
            Some(true) if state.serves_missing => None,
            Some(true) if state.crashes_by_old_definition() => Some(RunAction::Restart),
            Some(true) if !is_running => Some(RunAction::Start),
            Some(false) if is_running => Some(RunAction::Stop),
            _ => None,
        };
        let mut fields = Vec::new();
        if let Some(wanted) = enable {
            fields.extend(FieldChange::diff("enabled", &!wanted, &wanted));
        }
        if let Some(action) = run {
            let (from, to) = match action {
                RunAction::Start => (active_state_text(status.active), "running"),
                RunAction::Restart => ("crashing", "running"),
                RunAction::Stop => (active_state_text(status.active), "stopped"),
            };
            let (from, to) = (FieldValue::value(from), FieldValue::value(to));
            fields.push(FieldChange::new("running", from, to));
        }
        let mut change = Change::update(fields)?;
        change.sets_running = run.is_some();
        Some(Diff::new(ServiceAction::Set { enable, run }, change))
    }

    fn apply(
        spec: &ServiceSpec,
        action: &ServiceAction,
        host: &Host,
    ) -> Result<ApplyOutcome, Failure> {
        let services = service_manager(spec, host);
        let (enable, run) = match *action {
            ServiceAction::LeaveMasked => return Ok(ApplyOutcome::Waiting(MASKED.to_owned())),
            ServiceAction::Set { enable, run } => (enable, run),
        };
        match enable {
            Some(true) => services.enable(&spec.name)?,
            Some(false) => services.disable(&spec.name)?,
            None => {}
        }
        match run {
            Some(action @ (RunAction::Start | RunAction::Restart)) => {
                if let Some(haproxy) = spec.haproxy(host) {
                    haproxy.prepare_start();
                }
                match action {
                    RunAction::Restart => services.restart(&spec.name)?,
                    _ => services.start(&spec.name)?,
                }
                listening::wait(services, &spec.name, &spec.proves.listens, host)?;
            }
            Some(RunAction::Stop) => services.stop(&spec.name)?,
            None => {}
        }
        Ok(ApplyOutcome::Done)
    }

    fn condition(spec: &ServiceSpec, state: &ServiceState) -> Condition {
        let status = &state.status;
        let run = |id: &String| ServiceRun {
            id: id.clone(),
            started_at: status.started_at,
            reloaded_at: status.reloaded_at,
            reload_id: status.reload_id.clone(),
        };
        let is_running = status.active == ActiveState::Running;
        Condition::Service(ServiceCondition {
            run: status.run_id.as_ref().filter(|_| is_running).map(run),
            may_start: spec.running == Some(true) && status.enabled != EnabledState::Masked,
            awaits_dependency: state.serves_missing && spec.running == Some(true),
            needs_maintenance: is_running && spec.runtime.haproxy.is_some(),
            unhealthy_reason: state.unhealthy_reason(spec),
        })
    }

    fn triggered(spec: &ServiceSpec) -> Option<&dyn Triggered> {
        Some(spec)
    }

    fn service(spec: &ServiceSpec) -> Option<&dyn kind::ServiceProcesses> {
        Some(spec)
    }
}

impl Triggered for ServiceSpec {
    fn triggers(&self) -> Vec<Trigger> {
        [
            (Duty::Restart, &self.restart_on),
            (Duty::Reload, &self.reload_on),
        ]
        .into_iter()
        .filter(|(_, on)| !on.is_empty())
        .map(|(duty, on)| Trigger {
            duty,
            on: on.clone(),
        })
        .collect()
    }

    fn fulfill(
        &self,
        duty: Duty,
        fingerprints: &[&str],
        host: &Host,
    ) -> Result<DutyOutcome, Failure> {
        let services = service_manager(self, host);
        let haproxy = self.haproxy(host);
        if let (Duty::Reload, Some(haproxy)) = (duty, &haproxy) {
            match haproxy.update_servers(fingerprints) {
                Ok(done) => return Ok(DutyOutcome::AtRuntime(done)),
                Err(why) => tracing::info!("{}: a reload is necessary: {why}", self.name),
            }
        }
        if let Some(slots) = self.slots()
            && let Err(why) = host.permissions.request_for_service(&slots)
        {
            return Err(Failure::deferred(why));
        }
        if let Some(haproxy) = &haproxy {
            haproxy.maintain();
        }
        match duty {
            Duty::Reload => reload::reload(services, &self.name, host)?,
            _ => services.restart(&self.name)?,
        }
        listening::wait(services, &self.name, &self.proves.listens, host)?;
        Ok(DutyOutcome::AsNamed)
    }
}

/// Why a pass leaves a masked service as it is: only the operator who masked it can tell whether it may run.
const MASKED: &str = "an operator masked it; `systemctl unmask` lets it run again";

/// Whether the service should run, but an operator masked it, which takes precedence. A running process
/// continues and is neither restarted nor reloaded, which systemd would refuse.
fn is_masked_but_wanted(spec: &ServiceSpec, state: &ServiceStatus) -> bool {
    spec.running == Some(true) && state.enabled == EnabledState::Masked
}

fn active_state_text(active: ActiveState) -> &'static str {
    match active {
        ActiveState::Running | ActiveState::Starting => "running",
        ActiveState::Stopping => "stopping",
        ActiveState::Stopped => "stopped",
        ActiveState::Failed => "failed",
    }
}

#[cfg(test)]
mod conformance {
    use super::Service;
    use crate::kind::ConformanceProbes;
    use crate::kind::conformance::Probe;
    use crate::ports::services::Services;

    impl ConformanceProbes for Service {
        fn prepare(host: &crate::ports::testing::Sandbox) {
            host.services.define("demo");
        }

        fn probes() -> Vec<Probe> {
            let owed = "what is owed is kept by the stages";
            vec![
                Probe::not_set("name", "it says which service is meant"),
                Probe::not_set("manager", "it says whom to ask"),
                Probe::drift("enabled", |host| host.services.disable("demo").unwrap()),
                Probe::drift("running", |host| host.services.crash("demo", &[])),
                Probe::not_set("unit", "what hides it is another user's"),
                Probe::not_set("serves", "it says what there must be before it can start"),
                Probe::not_set("after_gate", "it says when the stages act"),
                Probe::not_set("process", "it is a name for operators"),
                Probe::not_set("proves", "it says what a check looks for"),
                Probe::not_set("runtime", "it says how a reload is spared"),
                Probe::not_set("coordinated", "it says whom a duty waits for"),
                Probe::not_set("restart_on", owed),
                Probe::not_set("reload_on", owed),
            ]
        }

        fn effects() -> Vec<Probe> {
            vec![Probe::effect("stopped by hand", |host| {
                host.services.stop("demo").unwrap();
            })]
        }
    }
}

#[cfg(test)]
mod tests;
