//! Checks that the app itself listens on its port. Any user of the host can listen on a free port above 1023,
//! such as an app's while it restarts: an answer from there then proves nothing, and an app that could not
//! bind its port says nothing against its release.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::ports::Host;
use crate::ports::http;
use crate::ports::listeners;
use crate::release::app::health::HealthCheck;
use crate::release::app::spec::ReleaseSpec;
use crate::resource::{Failure, FailureKind};

/// The value of `listener` that allows any user to answer.
const ANY_LISTENER: &str = "any";

/// Returns the uids of an app's services.
pub(crate) type ServiceUids<'a> = &'a dyn Fn() -> Vec<u32>;

/// The ports to check, and who may listen there.
pub(crate) struct ListenerCheck<'a> {
    spec: &'a ReleaseSpec,
    host: &'a Host,
    runs_as: ServiceUids<'a>,
    /// The app's own port, if the role names it and it is above 1023.
    app_port: Option<SocketAddr>,
    /// The local addresses of the health check, on ports above 1023.
    health_addresses: Vec<SocketAddr>,
}

/// The listeners of the health check's addresses, if all of them are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListenerState {
    Allowed,
    Absent,
    /// There is no address to check: `listener: any`, another host, or a port that root assigns.
    NotChecked,
}

impl<'a> ListenerCheck<'a> {
    pub(crate) fn new(
        spec: &'a ReleaseSpec,
        host: &'a Host,
        runs_as: ServiceUids<'a>,
        timeout: Duration,
    ) -> Result<ListenerCheck<'a>, Failure> {
        let is_unprivileged =
            |address: &SocketAddr| listeners::is_unprivileged_port(address.port());
        let own = spec.port.map(|port| (Ipv4Addr::LOCALHOST, port).into());
        let mut asked = Vec::new();
        if let Some(health) = &spec.health
            && health.listener.as_deref() != Some(ANY_LISTENER)
        {
            let addresses = http::resolve(&health.url, timeout).map_err(|error| {
                Failure::new(format!("the health check at {}: {error}", health.url))
            })?;
            for address in addresses.into_iter().filter(is_unprivileged) {
                if listeners::is_local(address) {
                    asked.push(address);
                }
            }
        }
        Ok(ListenerCheck {
            spec,
            host,
            runs_as,
            app_port: own.filter(is_unprivileged),
            health_addresses: asked,
        })
    }

    /// Fails if a user that is not allowed holds one of the ports.
    pub(crate) fn check(&self) -> Result<ListenerState, Failure> {
        if let Some(own) = self.app_port {
            self.check_address(own)?;
        }
        let mut state = match self.health_addresses.is_empty() {
            true => ListenerState::NotChecked,
            false => ListenerState::Absent,
        };
        for address in &self.health_addresses {
            if self.check_address(*address)? {
                state = ListenerState::Allowed;
            }
        }
        Ok(state)
    }

    /// Whether there is a listener; fails if its user is not allowed.
    fn check_address(&self, address: SocketAddr) -> Result<bool, Failure> {
        let port = address.port();
        let all = listeners::find(address).map_err(|error| {
            let kind = match error.kind() {
                std::io::ErrorKind::PermissionDenied => FailureKind::PermissionDenied,
                _ => FailureKind::Error,
            };
            let message = format!("cannot determine who listens on port {port}: {error}");
            Failure::of_kind(kind, message)
        })?;
        for listener in &all {
            if self.is_allowed(listener.uid)? {
                continue;
            }
            let user = listener.user_name();
            let process = listener.process();
            let by = process.as_ref().map_or(String::new(), |(pid, program)| {
                format!(" (process {pid} (`{program}`))")
            });
            let end = process.map_or_else(
                || format!("find it as root: `ss -ltnp 'sport = :{port}'`"),
                |(pid, _)| format!("stop it: `kill {pid}`"),
            );
            let app = &self.spec.app;
            return Err(Failure::conflict(format!(
                "port {port} is held by the user {user}{by}, not by {app}"
            ))
            .hint(format!(
                "{end}; the next pass continues from here. `socket: true`, where the role has it, keeps other users from taking the port. To allow {user}: `health: {{listener: {user}}}`"
            )));
        }
        Ok(!all.is_empty())
    }

    fn is_allowed(&self, uid: u32) -> Result<bool, Failure> {
        let (root, accounts) = (&self.host.root, &self.host.accounts);
        // In a sandbox the user that runs trueup counts as root.
        if uid == 0 || (!root.is_real() && uid == root.current_uid()) {
            return Ok(true);
        }
        let allowed = self.spec.health.as_ref();
        let allowed = allowed.and_then(|health| health.listener.as_deref());
        for name in self.spec.user.as_deref().into_iter().chain(allowed) {
            if accounts.uid(root, name)? == Some(uid) {
                return Ok(true);
            }
        }
        Ok((self.runs_as)().contains(&uid))
    }
}

/// The failure for an answer from an address without a visible listener.
pub(crate) fn no_listener_failure(url: &str) -> Failure {
    Failure::conflict(format!(
        "{url} answers, but no process on this host listens there, so the answer cannot be attributed to the app"
    ))
    .hint("if a packet filter redirects it, use the target address, or accept any listener: `health: {listener: any}`")
}

/// The conflict with another user that holds the app's port: whatever failed then, the release is not to
/// blame.
pub(crate) fn port_conflict(
    spec: &ReleaseSpec,
    host: &Host,
    runs_as: ServiceUids<'_>,
) -> Option<Failure> {
    let timeout = spec
        .health
        .as_ref()
        .map_or(Duration::ZERO, HealthCheck::timeout);
    let looked = ListenerCheck::new(spec, host, runs_as, timeout).and_then(|all| all.check());
    looked
        .err()
        .filter(|failure| failure.is(FailureKind::Conflict))
}
