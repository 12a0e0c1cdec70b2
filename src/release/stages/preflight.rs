//! The preflight stage: starts the new release beside the running one, on a port of its own, and asks its health
//! check there. A release that does not boot or answers wrongly is never activated, so no visitor meets it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use url::Url;

use super::attempt::{Attempt, StageOutcome};
use super::gate::PermanentFailures;
use super::health;
use super::run;
use crate::digest::digest;
use crate::ports::exec::{Command, CompletedCommand, StopFlag};
use crate::ports::{Host, backoff, listeners, machine};
use crate::release::app::health::HealthCheck;
use crate::release::app::preflight::{PreflightSpec, WhenShort};
use crate::release::app::spec::POLL_INTERVAL;
use crate::release::app::stage::Stage;
use crate::release::deployment::Deployment;
use crate::release::record::entry::ReleaseStatus;
use crate::release::record::log::heading;
use crate::resource::{Failure, FailureKind};

/// Lines of the app's output in the failure.
const MAX_SHOWN_LINES: usize = 20;
/// Lines of the app's output in which trueup looks for a port that is taken.
const MAX_SEARCHED_LINES: usize = 200;
/// Time that the app gets beyond its boot: to answer wrongly, and to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// Where in the deployment a preflight runs; its name in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PreflightPoint {
    BeforeMigrate,
    BeforeActivate,
}

/// Starts a release and asks its health check, if the role wants that at this point. A failure of kind
/// [`FailureKind::Permanent`] proves the release bad; any other says nothing about it.
pub(crate) fn preflight(
    attempt: &mut Attempt<'_, '_>,
    point: PreflightPoint,
) -> Result<(), Failure> {
    let deployment = attempt.deployment;
    let Some(spec) = &deployment.spec.preflight else {
        return Ok(());
    };
    let wanted = match point {
        PreflightPoint::BeforeMigrate => spec.runs_before_migrate(),
        PreflightPoint::BeforeActivate => spec.runs_before_activate(),
    };
    // A release that passed its gate needs no second proof, and rolling back to it must not wait.
    let is_proven = attempt.entry().state == ReleaseStatus::Good;
    if !wanted || is_proven {
        return Ok(());
    }
    let definition = fingerprint(spec, point);
    attempt.run_stage(Stage::Preflight, Some(&definition), |attempt| {
        tracing::info!(target: "progress", "{}: preflight of {}", deployment.spec.app, attempt.name);
        match check_memory(spec)? {
            Some(why) => {
                tracing::warn!("{}: no preflight: {why}", deployment.spec.app);
                Ok(StageOutcome::Skipped(why))
            }
            None => run_instance(attempt, spec).map_err(|failure| spare_if_host_is_unhealthy(deployment, failure)),
        }
    })
}

/// A failure proves nothing about the release while the running one fails its health check as well: a database may
/// be down.
fn spare_if_host_is_unhealthy(deployment: &Deployment<'_>, failure: Failure) -> Failure {
    let release = deployment.spec;
    let (true, Some(health)) = (failure.is(FailureKind::Permanent), &release.health) else {
        return failure;
    };
    let headers = health::request_headers(health, &release.health_headers);
    match health::request(health, &headers, None) {
        Ok(()) => failure,
        Err(_) => Failure {
            kind: FailureKind::Error,
            ..failure
        }
        .hint("the running release fails its health check too: the cause may be something that both need; the next pass tries again"),
    }
}

/// On record, so without the headers of the health check, which may hold a token.
fn fingerprint(spec: &PreflightSpec, point: PreflightPoint) -> String {
    let url = spec.health.as_ref().map(|health| &health.url);
    let text = format!("{:?}", (spec.command.to_string(), &spec.env, url, point));
    digest(text.as_bytes())[..16].to_owned()
}

/// Why there is no room for a second instance of the app; an error if the role does not deploy without one.
fn check_memory(spec: &PreflightSpec) -> Result<Option<String>, Failure> {
    let Some(needed) = spec.memory else {
        return Ok(None);
    };
    let Ok(memory) = machine::memory() else {
        return Ok(None);
    };
    if memory.available >= needed.0 {
        return Ok(None);
    }
    let why = format!(
        "the host has {} MB of memory available, and `preflight.memory` wants {} MB",
        memory.available / 1_000_000,
        needed.0 / 1_000_000
    );
    match spec.when_short {
        WhenShort::Skip => Ok(Some(why)),
        WhenShort::Fail => Err(Failure::new(why)
            .hint("free memory, lower `preflight.memory`, or deploy without: `preflight: {when_short: skip}`")),
    }
}

/// Starts the app, polls its health check until the outcome is known, and stops the app.
fn run_instance(attempt: &Attempt<'_, '_>, spec: &PreflightSpec) -> Result<StageOutcome, Failure> {
    let deployment = attempt.deployment;
    let port = listeners::free_port().map_err(|error| {
        Failure::new(format!("there is no free port for the preflight: {error}"))
    })?;
    let command = command(attempt, spec, port)?;
    let user = command.identity.as_ref().map(|identity| identity.uid);
    let instance = Instance {
        deployment,
        health: health_at(deployment, spec, port)?,
        user: user.unwrap_or_else(|| deployment.host.root.current_uid()),
        address: (Ipv4Addr::LOCALHOST, port).into(),
        limit: spec.timeout(),
    };
    let stop = command.stop.clone().unwrap_or_default();
    let exec = &*deployment.host.exec;
    let (verdict, ended) = std::thread::scope(|scope| {
        let child = scope.spawn(move || exec.run(command));
        let verdict = instance.poll(&|| child.is_finished());
        stop.set();
        (verdict, child.join())
    });
    let ended = ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    match verdict {
        Verdict::Passed => Ok(StageOutcome::Done),
        Verdict::Stopped => Err(Failure::stopped()),
        Verdict::Failed(failure) => Err(with_output(failure, &ended)),
        Verdict::Ended
            if met_a_taken_port(&ended) && !attempt.record.has_done(Stage::Preflight) =>
        {
            Ok(skip_ignored_port(deployment, "it met a port that is taken"))
        }
        Verdict::Ended => Err(with_output(
            Failure::permanent(format!("the app {} before it answered", ended.exit_reason)),
            &ended,
        )),
        Verdict::NeverListened if attempt.record.has_done(Stage::Preflight) => Err(with_output(
            Failure::permanent(format!(
                "the app did not listen on port {port} (`PORT`) within {} s",
                spec.timeout().as_secs()
            )),
            &ended,
        )),
        Verdict::NeverListened => Ok(skip_ignored_port(deployment, "it did not listen there")),
    }
}

/// The app does not take its port from `PORT`, so a preflight says nothing about it.
fn skip_ignored_port(deployment: &Deployment<'_>, symptom: &str) -> StageOutcome {
    let why = format!("the app ignores the port in `PORT`: {symptom}");
    tracing::warn!(
        "{}: deployed without preflight: {why}; let `preflight.command` listen on that port, or set `preflight: null`",
        deployment.spec.app
    );
    StageOutcome::Skipped(why)
}

/// Whether the app met a port that is taken: then it did not listen on the one in `PORT`. Only the text of its
/// error says so; it decides no more than whether the release is spared.
fn met_a_taken_port(ended: &CompletedCommand) -> bool {
    let output = ended.output.tail(MAX_SEARCHED_LINES).to_lowercase();
    ["eaddrinuse", "address already in use"]
        .iter()
        .any(|text| output.contains(text))
}

fn with_output(failure: Failure, ended: &CompletedCommand) -> Failure {
    match ended.output.tail(MAX_SHOWN_LINES) {
        tail if tail.is_empty() => failure,
        tail => failure.with_log_tail(&tail),
    }
}

/// The command that starts the app, which a flag of its own stops.
fn command(attempt: &Attempt<'_, '_>, spec: &PreflightSpec, port: u16) -> Result<Command, Failure> {
    let deployment = attempt.deployment;
    let root = &deployment.host.root;
    let release = deployment.layout.release(&attempt.name);
    let app = spec.command.command();
    // The kernel ends this instance before anything that visitors use.
    let prefer_to_kill = "echo 1000 > /proc/self/oom_score_adj; exec \"$@\"";
    let wrapper = ["/bin/sh", "-c", prefer_to_kill, "preflight"].map(OsString::from);
    let mut command = Command::new(wrapper.into_iter().chain(app.argv));
    let identity = run::identity(deployment, deployment.spec.user.as_deref())?;
    let mut env = spec.env.clone();
    env.insert("PORT".into(), port.to_string());
    env.insert("TRUEUP_PREFLIGHT".into(), "1".into());
    command.env = run::environment(
        deployment,
        &release,
        Stage::Preflight.as_str(),
        &env,
        identity.as_ref(),
    );
    command.cwd = Some(root.machine_path(&release));
    command.identity = identity.filter(|_| root.is_privileged());
    command.umask = deployment.spec.umask();
    command.timeout = spec.timeout() + STOP_TIMEOUT;
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
enum Verdict {
    Passed,
    Stopped,
    /// The app ended before it answered.
    Ended,
    NeverListened,
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
                return Verdict::Ended;
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
                    return Verdict::NeverListened;
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
