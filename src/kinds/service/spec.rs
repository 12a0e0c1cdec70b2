//! What a role says of a service.

use std::path::PathBuf;

use serde::Deserialize;

use super::haproxy::{Haproxy, HaproxyRuntime};
use super::listening;
use crate::ports::Host;
use crate::ports::services::{ManagedBy, Services};
use crate::problem::Problem;

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
    /// What a running process can take over, so that it is not reloaded.
    #[serde(default)]
    pub runtime: RuntimeUpdates,
    /// Whether the hosts of the environment take turns: one at a time restarts or reloads it, by the slot `_NAME` of the
    /// [fleet](fleet.md#services-of-several-hosts). Not for services of an app, for which its rollout policy stands.
    #[serde(default)]
    pub coordinated: bool,
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

/// How the running processes of a service take over changes.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct RuntimeUpdates {
    /// It is haproxy 2.6 or newer: a change of nothing but the servers of its backends goes over its admin socket. With
    /// any other version or change it is reloaded. A server that leaves goes into maintenance, and is deleted once it has no
    /// connections.
    pub haproxy: Option<HaproxyRuntime>,
}

impl RuntimeUpdates {
    pub(super) fn validate(&self) -> Result<(), Problem> {
        self.haproxy
            .as_ref()
            .map_or(Ok(()), HaproxyRuntime::validate)
    }
}

impl ServiceSpec {
    pub(super) fn validate_coordinated(&self) -> Result<(), Problem> {
        if self.serves.is_some() {
            let problem = Problem::new(
                "a service of an app takes a slot of the app, and a host never waits for a slot while it has another",
            );
            return Err(problem
                .field("coordinated")
                .hint("leave it out: the rollout policy of the app stands for its services"));
        }
        // It becomes a part of a key in the store.
        let mut characters = self.name.chars();
        let is_plain = characters.next().is_some_and(|c| c.is_ascii_alphanumeric())
            && characters.all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !is_plain || self.name.len() > 64 {
            let problem = Problem::new(format!(
                "`{}` cannot be coordinated: expected a name of letters, digits, `-`, `_` and `.`, at most 64",
                self.name
            ));
            return Err(problem.field("name"));
        }
        Ok(())
    }

    /// The haproxy that it runs, if that is one whose servers can be changed.
    pub(super) fn haproxy<'a>(&'a self, host: &'a Host) -> Option<Haproxy<'a>> {
        let spec = self.runtime.haproxy.as_ref()?;
        let services = service_manager(self, host);
        Some(Haproxy::new(spec, &self.name, services, host))
    }
}

/// The supervisor of the service.
pub(super) fn service_manager<'a>(spec: &ServiceSpec, host: &'a Host) -> &'a dyn Services {
    host.service_manager(spec.manager)
}
