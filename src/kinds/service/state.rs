//! A service as it is on the host, and what is wrong with it.

use std::path::PathBuf;

use jiff::SignedDuration;

use super::listening;
use super::spec::{ServiceSpec, service_manager};
use crate::ports::Host;
use crate::ports::services::{ActiveState, EnabledState, ServiceStatus};
use crate::resource::Failure;

/// A service as found on the host.
pub(in crate::kinds) struct ServiceState {
    pub(super) status: ServiceStatus,
    /// The path that it `serves` does not exist yet.
    pub(super) serves_missing: bool,
    /// It has been up for less than [`STABLE_AFTER`], or for an unknown time.
    recently_started: bool,
    /// An `EnvironmentFile=` that the supervisor opens as root although others can replace it.
    exposed_environment_file: Option<PathBuf>,
    /// Why it does not listen where it should.
    not_listening: Option<Failure>,
    /// What it printed last, if it crashed a moment ago.
    log_tail: Vec<String>,
    /// The service of a socket that failed is masked.
    pub(super) is_service_masked: bool,
}

impl ServiceState {
    pub(super) fn inspect(spec: &ServiceSpec, host: &Host) -> Result<ServiceState, Failure> {
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
            let crashed = is_crashing(&status);
            let is_wrong = crashed || not_listening.is_some();
            let log_tail = match is_wrong && spec.running == Some(true) {
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

    /// It crashes again and again, and its supervisor would go on to start it by a definition that has been replaced:
    /// systemd reads a new one only when it is told to.
    pub(super) fn crashes_by_old_definition(&self) -> bool {
        is_crashing(&self.status) && self.status.stale_definition
    }

    /// A crash loop, which most inspections see as running (a single restart is allowed); or it does not listen where it
    /// should; or the supervisor uses another definition, or one that exposes root's rights.
    pub(super) fn unhealthy_reason(&self, spec: &ServiceSpec) -> Option<Failure> {
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
        // What it printed says more, and systemd forgets this when it starts it again.
        let why = why.filter(|_| self.log_tail.is_empty());
        let why = why.map_or(String::new(), |why| format!(" ({why})"));
        let symptom = match self.status.active {
            _ if spec.running != Some(true) => return None,
            ActiveState::Starting if restarts > 0 => "crashed and is waiting to be restarted",
            // No counter: the report stores an unchanged message only once.
            ActiveState::Running if restarts > 1 && self.recently_started => {
                "crashed more than once, the last time less than 5 minutes ago"
            }
            _ => {
                let failure = self.not_listening.clone()?;
                return Some(match self.log_tail.is_empty() {
                    true => failure,
                    false => failure.with_log_tail(&self.log_tail.join("\n")),
                });
            }
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

fn is_crashing(status: &ServiceStatus) -> bool {
    status.active == ActiveState::Starting && status.restarts > 0
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
pub(super) const STABLE_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// Whether it is a socket that should run and whose service an operator masked: the first connection makes it fail, and
/// no start of it would last.
fn is_service_masked(spec: &ServiceSpec, host: &Host) -> Result<bool, Failure> {
    let Some(service) = spec.name.strip_suffix(".socket") else {
        return Ok(false);
    };
    let status = service_manager(spec, host).status(service)?;
    Ok(spec.running == Some(true) && status.enabled == EnabledState::Masked)
}
