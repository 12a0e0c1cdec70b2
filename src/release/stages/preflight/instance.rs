//! A trial start of the new release: starts the app on a port of its own, polls its health check, and stops it.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use url::Url;

use crate::ports::exec::{Command, CompletedCommand, ExitReason, StopFlag};
use crate::ports::services::{TransientEnd, TransientUnit};
use crate::ports::{Host, backoff, listeners};
use crate::release::app::health::HealthCheck;
use crate::release::app::preflight::PreflightSpec;
use crate::release::app::spec::POLL_INTERVAL;
use crate::release::app::stage::Stage;
use crate::release::deployment::Deployment;
use crate::release::progress::StepProgress;
use crate::release::record::log::heading;
use crate::release::stages::attempt::Attempt;
use crate::release::stages::environment::environment;
use crate::release::stages::poll::PermanentFailures;
use crate::release::stages::{health, run};
use crate::resource::{Failure, FailureKind};

/// Time that the app gets beyond its boot: to answer wrongly, and to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

const SIGKILL: i32 = 9;

/// Starts the app, polls its health check until the outcome is known, and stops the app. Returns what it printed,
/// too.
pub(super) fn run_instance(
    attempt: &Attempt<'_, '_>,
    spec: &PreflightSpec,
    progress: &StepProgress<'_>,
) -> Result<(Verdict, CompletedCommand), Failure> {
    let deployment = attempt.deployment;
    let (gate_timeout, ..) = deployment.spec.gate_timing();
    let (exec, services) = (&*deployment.host.exec, &*deployment.host.services);
    let port = listeners::free_port().map_err(|error| {
        Failure::new(format!("there is no free port for the preflight: {error}"))
    })?;
    let mut command = command(attempt, spec, port)?;
    command.observer = Some(progress.observer(Stage::Preflight.as_str()));
    let user = command.identity.as_ref().map(|identity| identity.uid);
    let instance = Instance {
        deployment,
        health: health_at(deployment, spec, port)?,
        user: user.unwrap_or_else(|| deployment.host.root.current_uid()),
        address: (Ipv4Addr::LOCALHOST, port).into(),
        limit: spec.timeout(gate_timeout),
    };
    let unit = transient_unit(deployment, spec);
    // One that a killed pass left.
    services.stop_transient(&unit.name)?;
    let stop = command.stop.clone().unwrap_or_default();
    let command = services.in_transient_unit(command, &unit);
    let (verdict, end, child) = std::thread::scope(|scope| {
        let child = scope.spawn(move || exec.run(command));
        let verdict = instance.poll(&|| child.is_finished());
        let end = services.stop_transient(&unit.name);
        stop.set();
        (verdict, end, child.join())
    });
    let completed = child.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    let end = end?;
    // A unit whose start was under way when it was to be stopped.
    services.stop_transient(&unit.name)?;
    let verdict = match verdict {
        Verdict::Ended { .. } => ended_verdict(end, &completed)?,
        verdict => verdict,
    };
    Ok((verdict, completed))
}

/// The verdict on an app that ended by itself.
fn ended_verdict(end: TransientEnd, completed: &CompletedCommand) -> Result<Verdict, Failure> {
    let (how, was_killed) = match (end, completed.exit_reason) {
        (TransientEnd::Failed { why, was_killed }, _) => {
            (format!("failed before it answered: {why}"), was_killed)
        }
        // systemd forgets a unit that ended well.
        (TransientEnd::Exited, reason)
        | (TransientEnd::NotStarted, reason @ ExitReason::Exited(0)) => {
            let was_killed =
                reason == ExitReason::Signalled(SIGKILL) || reason == ExitReason::OutOfMemory;
            (format!("{reason} before it answered"), was_killed)
        }
        (TransientEnd::NotStarted, reason) => {
            let output = completed.output.tail(run::MAX_SHOWN_LINES);
            return Err(Failure::new(format!(
                "systemd did not start the preflight (systemd-run {reason})"
            ))
            .with_log_tail(&output));
        }
    };
    Ok(Verdict::Ended { how, was_killed })
}

fn transient_unit(deployment: &Deployment<'_>, spec: &PreflightSpec) -> TransientUnit {
    let release = deployment.spec;
    let (gate_timeout, ..) = release.gate_timing();
    TransientUnit {
        name: format!("trueup-preflight-{}", release.app),
        description: format!("Preflight of the app {}", release.app),
        memory: spec.memory.map(|size| size.0),
        max_runtime: spec.timeout(gate_timeout) + STOP_TIMEOUT,
    }
}

/// The command that starts the app, which a flag of its own stops.
fn command(attempt: &Attempt<'_, '_>, spec: &PreflightSpec, port: u16) -> Result<Command, Failure> {
    let deployment = attempt.deployment;
    let root = &deployment.host.root;
    let app = deployment.app_folder(&attempt.name);
    let mut command = spec.command.command();
    let identity = run::identity(deployment, deployment.spec.user.as_deref())?;
    let mut env = spec.env.clone();
    env.insert("PORT".into(), port.to_string());
    env.insert("TRUEUP_PREFLIGHT".into(), "1".into());
    command.env = environment(
        deployment,
        app.path(),
        Stage::Preflight.as_str(),
        &env,
        identity.as_ref(),
    )?;
    command.cwd = Some(root.machine_path(app.path()));
    command.identity = identity.filter(|_| root.is_privileged());
    command.umask = deployment.spec.umask();
    let (gate_timeout, ..) = deployment.spec.gate_timing();
    command.timeout = spec.timeout(gate_timeout) + STOP_TIMEOUT;
    command.stop = Some(StopFlag::default());
    let mut log = run::open_log(deployment, &attempt.name)?;
    let now = deployment.host.clock.now();
    // A log that cannot be written must not prevent a deployment.
    let stage = Stage::Preflight;
    let line = format!("{now:.0} {}", spec.command);
    let _ = writeln!(log, "{}", heading(stage, stage.as_str(), &line));
    command.log = Some(log);
    Ok(command)
}

/// The health check of the instance on this port.
fn health_at(
    deployment: &Deployment<'_>,
    spec: &PreflightSpec,
    port: u16,
) -> Result<HealthCheck, Failure> {
    let release = deployment.spec;
    let own = spec.health.as_ref().or(release.health.as_ref());
    let mut health = own.expect("the spec was validated").clone();
    let (url, host) = instance_url(&health.url, port)
        .ok_or_else(|| Failure::new(format!("`{}` is not a URL to check", health.url)))?;
    health.url = url;
    let all = health.headers.keys().chain(release.health_headers.keys());
    let names_host = all
        .into_iter()
        .any(|name| name.eq_ignore_ascii_case("host"));
    if let (Some(host), false) = (host, names_host) {
        health.headers.insert("Host".into(), host);
    }
    Ok(health)
}

/// The URL that leads to the instance, and the host name of the original one. Over http, because what ends TLS is not in
/// front of the instance.
fn instance_url(url: &str, port: u16) -> Option<(String, Option<String>)> {
    let mut url = Url::parse(url).ok()?;
    let host = url.domain().filter(|name| *name != "localhost");
    let host = host.map(str::to_owned);
    url.set_scheme("http").ok()?;
    url.set_host(Some("127.0.0.1")).ok()?;
    url.set_port(Some(port)).ok()?;
    Some((url.into(), host))
}

/// What the polls found.
pub(super) enum Verdict {
    Passed,
    Stopped,
    /// The app ended before it answered.
    Ended {
        how: String,
        /// By SIGKILL or for want of memory, which may have a cause outside.
        was_killed: bool,
    },
    /// Nothing listened on this port while the app could boot.
    NeverListened {
        port: u16,
        limit: Duration,
    },
    Failed(Failure),
}

/// A running instance of the release.
struct Instance<'a> {
    deployment: &'a Deployment<'a>,
    health: HealthCheck,
    /// The uid of the app.
    user: u32,
    address: SocketAddr,
    /// How long it may boot.
    limit: Duration,
}

/// The state of the instance's port.
enum Poll {
    NotListening,
    Answered(Result<(), Failure>),
}

impl Instance<'_> {
    fn poll(&self, has_ended: &dyn Fn() -> bool) -> Verdict {
        let host: &Host = self.deployment.host;
        let deadline: Instant = host.clock.monotonic_now() + self.limit;
        let mut permanent = PermanentFailures::new(self.health.fail_after());
        let mut last = None;
        loop {
            if host.stop.is_set() {
                return Verdict::Stopped;
            }
            if has_ended() {
                return Verdict::Ended {
                    how: String::new(),
                    was_killed: false,
                };
            }
            let wrong = match self.check() {
                Ok(Poll::NotListening) => None,
                Ok(Poll::Answered(Ok(()))) => return Verdict::Passed,
                Ok(Poll::Answered(Err(failure))) => Some(failure),
                Err(failure) => return Verdict::Failed(failure),
            };
            let now = host.clock.monotonic_now();
            if let Some(failure) = permanent.add(wrong.as_ref(), now) {
                return Verdict::Failed(failure);
            }
            last = wrong.or(last);
            if now >= deadline {
                let Some(failure) = last else {
                    return Verdict::NeverListened {
                        port: self.address.port(),
                        limit: self.limit,
                    };
                };
                let context = format!("not healthy within {} s", self.limit.as_secs());
                return Verdict::Failed(Failure {
                    kind: FailureKind::Permanent,
                    ..failure.with_context(&context)
                });
            }
            backoff::sleep(POLL_INTERVAL);
        }
    }

    /// Asks the app, once it listens. Fails if another user has taken its port.
    fn check(&self) -> Result<Poll, Failure> {
        let port = self.address.port();
        let found = listeners::find(self.address).map_err(|error| {
            Failure::new(format!(
                "cannot determine who listens on port {port}: {error}"
            ))
        })?;
        if let Some(foreign) = found.iter().find(|listener| listener.uid != self.user) {
            return Err(Failure::conflict(format!(
                "the user {} took port {port} of the preflight",
                foreign.user_name()
            )));
        }
        if found.is_empty() {
            return Ok(Poll::NotListening);
        }
        let defaults: &BTreeMap<String, Option<String>> = &self.deployment.spec.health_headers;
        let headers = health::request_headers(&self.health, defaults);
        let sha = Some(&self.deployment.sha);
        Ok(Poll::Answered(health::request(&self.health, &headers, sha)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_check_leads_to_the_instance_under_the_name_of_the_app() {
        for (url, expected, host) in [
            (
                "http://127.0.0.1:3000/up?full=1",
                "http://127.0.0.1:4000/up?full=1",
                None,
            ),
            ("http://[::1]:3000/up", "http://127.0.0.1:4000/up", None),
            ("http://localhost/", "http://127.0.0.1:4000/", None),
            (
                "https://shop.example.com/up",
                "http://127.0.0.1:4000/up",
                Some("shop.example.com"),
            ),
        ] {
            let host = host.map(str::to_owned);
            assert_eq!(instance_url(url, 4000), Some((expected.to_owned(), host)));
        }
        assert_eq!(instance_url("http://", 4000), None);
    }
}
