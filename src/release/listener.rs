//! Whether it is the app that answers on its port. Every user of the host can listen on a port above
//! 1023 that is free, as that of an app is while it restarts: what answers there then proves nothing,
//! and that the app could not have its port says nothing against its release.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::Spec;
use crate::ports::Host;
use crate::ports::http;
use crate::ports::listeners;
use crate::resource::Failure;

/// The value of `listener` that lets anybody answer.
const ANY: &str = "any";

/// As whom the processes of an app's services run.
pub type RunsAs<'a> = &'a dyn Fn() -> Vec<u32>;

/// Who may listen where the app answers.
pub(super) struct Listeners<'a> {
    spec: &'a Spec,
    host: &'a Host,
    runs_as: RunsAs<'a>,
    /// The app's own port, if the role says which it is.
    own: Option<SocketAddr>,
    /// Where the health check asks.
    asked: Vec<SocketAddr>,
}

/// Who listens where the health check asks, if it is nobody wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    Right,
    Nobody,
    /// It is for others to see, on another host or behind a port that root gives away.
    Elsewhere,
}

impl<'a> Listeners<'a> {
    pub(super) fn of(
        spec: &'a Spec,
        host: &'a Host,
        runs_as: RunsAs<'a>,
        timeout: Duration,
    ) -> Result<Listeners<'a>, Failure> {
        let judged = |address: &SocketAddr| listeners::is_anybodys(address.port());
        let own = spec.port.map(|port| (Ipv4Addr::LOCALHOST, port).into());
        let mut asked = Vec::new();
        if let Some(health) = &spec.health
            && health.listener.as_deref() != Some(ANY)
        {
            let found = http::addresses(&health.url, timeout).map_err(|error| {
                Failure::new(format!("the health check at {}: {error}", health.url))
            })?;
            for address in found.into_iter().filter(judged) {
                if listeners::is_here(address) {
                    asked.push(address);
                }
            }
        }
        Ok(Listeners {
            spec,
            host,
            runs_as,
            own: own.filter(judged),
            asked,
        })
    }

    /// Fails if a stranger holds one of the ports.
    pub(super) fn look(&self) -> Result<Seen, Failure> {
        if let Some(own) = self.own {
            self.at(own)?;
        }
        let mut seen = match self.asked.is_empty() {
            true => Seen::Elsewhere,
            false => Seen::Nobody,
        };
        for address in &self.asked {
            if self.at(*address)? {
                seen = Seen::Right;
            }
        }
        Ok(seen)
    }

    /// Whether somebody listens there.
    fn at(&self, address: SocketAddr) -> Result<bool, Failure> {
        let port = address.port();
        let all = listeners::at(address).map_err(|error| {
            let failure = Failure::new(format!("cannot see who listens on port {port}: {error}"));
            Failure {
                denied: error.kind() == std::io::ErrorKind::PermissionDenied,
                ..failure
            }
        })?;
        for listener in &all {
            if self.is_right(listener.uid)? {
                continue;
            }
            let user = listener.user();
            let process = listener.process();
            let by = process.as_ref().map_or(String::new(), |(pid, program)| {
                format!(" (process {pid} (`{program}`))")
            });
            let end = process.map_or_else(
                || format!("see as root who it is: `ss -ltnp 'sport = :{port}'`"),
                |(pid, _)| format!("end it: `kill {pid}`"),
            );
            let app = &self.spec.app;
            return Err(Failure::disturbed(format!(
                "port {port} is held by the user {user}{by}, not by {app}"
            ))
            .hint(format!(
                "{end}; the next pass goes on from here. `socket: true`, where the role has it, keeps the port out of others' hands. If {user} is to answer there: `health: {{listener: {user}}}`"
            )));
        }
        Ok(!all.is_empty())
    }

    fn is_right(&self, uid: u32) -> Result<bool, Failure> {
        let (root, accounts) = (&self.host.root, &self.host.accounts);
        // In a sandbox whoever runs trueup is root.
        if uid == 0 || (!root.is_real() && uid == root.user()) {
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

/// What was answered where nobody listens.
pub(super) fn unseen(url: &str) -> Failure {
    Failure::disturbed(format!(
        "{url} answers, but nobody is seen to listen there: whose answer it is cannot be told"
    ))
    .hint("if a packet filter leads it elsewhere, ask at that address, or let anybody answer: `health: {listener: any}`")
}

/// Who keeps the app from its port, if somebody does: whatever became of it then, its release is not to
/// blame.
pub fn disturbed(spec: &Spec, host: &Host, runs_as: RunsAs<'_>) -> Option<Failure> {
    let timeout = spec
        .health
        .as_ref()
        .map_or(Duration::ZERO, super::Health::timeout);
    let looked = Listeners::of(spec, host, runs_as, timeout).and_then(|all| all.look());
    looked.err().filter(|failure| failure.disturbed)
}
