//! The `service` kind: enabled, running, and restarted or reloaded when a dependency changed.

mod listening;
mod processes;
mod reload;
mod running_release;

use std::path::PathBuf;

use jiff::SignedDuration;
use serde::Deserialize;

use crate::kind::{self, Condition, Diff, Kind, ServiceCondition, Triggered};
use crate::ports::Host;
use crate::ports::services::{ActiveState, EnabledState, ManagedBy, ServiceStatus, Services};
use crate::resource::{
    ApplyOutcome, Change, Duty, Failure, FieldChange, FieldValue, ServiceRun, Trigger, Verb,
    Withheld,
};

pub(super) struct Service;

/// A service.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceSpec {
    /// Its name in the service manager; for systemd `nginx` means `nginx.service`.
    pub name: String,
    /// The service manager: `host` (see `services` in the settings), or `supervisor`, a
    /// supervisord beside it. Names are those of supervisord: `shop`, `group:shop` or `group:*`.
    #[serde(default)]
    pub manager: ManagedBy,
    /// Whether it starts at boot; not given: left as it is. Under supervisord its section decides.
    pub enabled: Option<bool>,
    /// Whether it runs; not given: left as it is. A oneshot unit can only be kept running with `RemainAfterExit=yes`.
    pub running: Option<bool>,
    /// The unit file that must define it. A unit that hides it, such as one of the same name in
    /// `/etc/systemd/system`, is a failure.
    pub unit: Option<PathBuf>,
    /// The path it runs from, normally an app's `current`. It is not started while the path does not exist.
    pub serves: Option<PathBuf>,
    /// Whether a new release passes its gate before this service is started or restarted with it: for workers, which no
    /// visitor asks. It has to stay up then, or the release is rolled back.
    #[serde(default)]
    pub after_gate: bool,
    /// The process of the app that it runs, or the cron job that it starts: a short name for `trueup logs` and
    /// `trueup restart`, which several services may share.
    pub process: Option<String>,
    /// What shows that it works, besides that it runs.
    #[serde(default)]
    pub proves: Proofs,
    /// Resources (ids) whose change requires a restart.
    #[serde(default)]
    pub restart_on: Vec<String>,
    /// Resources (ids) whose change requires a reload.
    #[serde(default)]
    pub reload_on: Vec<String>,
}

/// What a service does while it works.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Proofs {
    /// The TCP ports that it listens on. A start, restart or reload after which it does not is a failure, and so is each
    /// pass that finds it so. An entry without text is left out.
    #[serde(default, deserialize_with = "listening::deserialize_ports")]
    #[cfg_attr(test, schemars(with = "Vec<u16>"))]
    pub listens: Vec<u16>,
}

/// A service as found on the host.
pub(super) struct ServiceState {
    status: ServiceStatus,
    /// The path that it `serves` does not exist yet.
    serves_missing: bool,
    /// It has been up for less than [`STABLE_AFTER`], or for an unknown time.
    recently_started: bool,
    /// An `EnvironmentFile=` that the supervisor opens as root although others can replace it.
    exposed_environment_file: Option<PathBuf>,
    /// Why it does not listen where it should.
    not_listening: Option<Failure>,
    /// What it printed last, if it crashed a moment ago.
    log_tail: Vec<String>,
    /// The service of a socket that failed is masked.
    is_service_masked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServiceAction {
    /// Enable or disable it, start or stop it; `None`: leave that as it is.
    Set {
        enable: Option<bool>,
        run: Option<bool>,
    },
    /// Wait for the operator who masked it.
    LeaveMasked,
}

/// The supervisor of the service.
fn service_manager<'a>(spec: &ServiceSpec, host: &'a Host) -> &'a dyn Services {
    host.service_manager(spec.manager)
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

    fn inspect(spec: &ServiceSpec, host: &Host) -> Result<ServiceState, Failure> {
        let status = service_manager(spec, host).status(&spec.name)?;
        if status.known {
            refuse_oneshot(spec, &status)?;
            let serves_missing = match &spec.serves {
                Some(path) => host.root.meta(path)?.is_none(),
                None => false,
            };
            let up = status
                .started_at
                .map(|at| host.clock.now().duration_since(at));
            let fresh = up.is_none_or(|up| up < STABLE_AFTER);
            let mut exposed = None;
            for path in &status.environment_files {
                if exposed.is_none() && !host.root.is_trusted_path(path)? {
                    exposed = Some(path.clone());
                }
            }
            let not_listening = match status.active {
                ActiveState::Running => {
                    let services = service_manager(spec, host);
                    listening::check(services, &spec.name, &spec.proves.listens)?.err()
                }
                _ => None,
            };
            let crashed = status.active == ActiveState::Starting && status.restarts > 0;
            let log_tail = match crashed && spec.running == Some(true) {
                true => service_manager(spec, host).log_tail(&spec.name),
                false => Vec::new(),
            };
            let is_service_masked =
                status.active == ActiveState::Failed && is_service_masked(spec, host)?;
            return Ok(ServiceState {
                not_listening,
                log_tail,
                is_service_masked,
                status,
                serves_missing,
                recently_started: fresh,
                exposed_environment_file: exposed,
            });
        }
        Err(
            Failure::not_ready(format!("there is no service `{}` on this host", spec.name))
                .hint("install its package, or describe its unit or section, before it"),
        )
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
        let run = spec
            .running
            .filter(|wanted| *wanted != is_running && !(*wanted && state.serves_missing));
        let mut fields = Vec::new();
        if let Some(wanted) = enable {
            fields.extend(FieldChange::diff("enabled", &!wanted, &wanted));
        }
        if let Some(wanted) = run {
            let to = if wanted { "running" } else { "stopped" };
            fields.push(FieldChange::new(
                "running",
                FieldValue::value(active_state_text(status.active)),
                FieldValue::value(to),
            ));
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
            Some(true) => {
                services.start(&spec.name)?;
                listening::wait(services, &spec.name, &spec.proves.listens, host)?;
            }
            Some(false) => services.stop(&spec.name)?,
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

    fn fulfill(&self, duty: Duty, host: &Host) -> Result<(), Failure> {
        let services = service_manager(self, host);
        match duty {
            Duty::Reload => reload::reload(services, &self.name, host)?,
            _ => services.restart(&self.name)?,
        }
        listening::wait(services, &self.name, &self.proves.listens, host)
    }
}

impl ServiceState {
    /// A crash loop, which most inspections see as running (a single restart is allowed); or it does not listen where it
    /// should; or the supervisor uses another definition, or one that exposes root's rights.
    fn unhealthy_reason(&self, spec: &ServiceSpec) -> Option<Failure> {
        let name = &spec.name;
        if let (Some(unit), Some(other)) = (&spec.unit, &self.status.definition_file)
            && unit != other
        {
            let other = other.display();
            let failure = Failure::new(format!(
                "{name} is defined by {other}, which hides {}",
                unit.display()
            ));
            return Some(failure.hint(format!(
                "remove the unwanted one: `rm {other}`, then `systemctl daemon-reload` and `systemctl restart {name}`"
            )));
        }
        if let Some(path) = &self.exposed_environment_file {
            let failure = Failure::new(format!(
                "{name}: systemd opens its EnvironmentFile= {} as root, and users other than root can put a link or a pipe there",
                path.display()
            ));
            return Some(failure.hint("let the service's own user read it, as the shipped templates/systemd/puma.service does, or keep the file in a folder that only root can write to"));
        }
        let restarts = self.status.restarts;
        let why = self.status.last_failure.as_ref();
        let why = why.map_or(String::new(), |why| format!(" ({why})"));
        let symptom = match self.status.active {
            _ if spec.running != Some(true) => return None,
            ActiveState::Starting if restarts > 0 => "crashed and is waiting to be restarted",
            // No counter: the report stores an unchanged message only once.
            ActiveState::Running if restarts > 1 && self.recently_started => {
                "crashed more than once, the last time less than 5 minutes ago"
            }
            _ => return self.not_listening.clone(),
        };
        let hint = format!(
            "see `journalctl -u {name}`; it counts as healthy after {} minutes without a crash",
            STABLE_AFTER.as_mins()
        );
        let failure = Failure::new(format!("{name} {symptom}{why}")).hint(hint);
        Some(match self.log_tail.is_empty() {
            true => failure,
            false => failure.with_log_tail(&self.log_tail.join("\n")),
        })
    }
}

/// Refuses to keep running what is meant to end: each pass would start it again.
fn refuse_oneshot(spec: &ServiceSpec, status: &ServiceStatus) -> Result<(), Failure> {
    if spec.running != Some(true) || !status.ends_by_itself {
        return Ok(());
    }
    let name = &spec.name;
    Err(Failure::new(format!(
        "{name} ends when its work is done (Type=oneshot without RemainAfterExit=), so `running: true` would start it in every pass"
    ))
    .hint(format!(
        "if it prepares something once, set `RemainAfterExit=yes` in its unit; if it is to run at times, describe `{name}.timer` as the running service; if it is to run after a change, use a `command`. Otherwise leave out `running`"
    )))
}

/// Uptime after which a service that died more than once counts as healthy again.
const STABLE_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// Why a pass leaves a masked service as it is: only the operator who masked it can tell whether it may run.
const MASKED: &str = "an operator masked it; `systemctl unmask` lets it run again";

/// Whether the service should run, but an operator masked it, which takes precedence. A running process
/// continues and is neither restarted nor reloaded, which systemd would refuse.
fn is_masked_but_wanted(spec: &ServiceSpec, state: &ServiceStatus) -> bool {
    spec.running == Some(true) && state.enabled == EnabledState::Masked
}

/// Whether it is a socket that should run and whose service an operator masked: the first connection makes it fail, and
/// no start of it would last.
fn is_service_masked(spec: &ServiceSpec, host: &Host) -> Result<bool, Failure> {
    let Some(service) = spec.name.strip_suffix(".socket") else {
        return Ok(false);
    };
    let status = service_manager(spec, host).status(service)?;
    Ok(spec.running == Some(true) && status.enabled == EnabledState::Masked)
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
