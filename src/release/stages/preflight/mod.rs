//! The preflight stage: starts the new release beside the running one, on a port of its own, and asks its health
//! check there. A release that does not boot or answers wrongly is never activated, so no visitor meets it.

mod instance;

use self::instance::{Verdict, run_instance};
use super::attempt::{Attempt, StageOutcome};
use super::health;
use super::run::MAX_SHOWN_LINES;
use crate::digest::digest;
use crate::ports::exec::CompletedCommand;
use crate::ports::machine;
use crate::release::app::preflight::{PreflightSpec, WhenShort};
use crate::release::app::stage::Stage;
use crate::release::deployment::Deployment;
use crate::release::progress::StepProgress;
use crate::release::record::entry::ReleaseStatus;
use crate::resource::{Failure, FailureKind};

/// Lines of the app's output in which trueup looks for a port that is taken.
const MAX_SEARCHED_LINES: usize = 200;

/// How many ports an instance gets while other users take them.
const MAX_PORTS: usize = 3;

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
    let Some(spec) = deployment.spec.preflight() else {
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
    attempt.run_stage(
        Stage::Preflight,
        Some(&definition),
        |attempt| match check_memory(spec)? {
            Some(why) => {
                tracing::warn!("{}: no preflight: {why}", deployment.spec.app);
                Ok(StageOutcome::Skipped(why))
            }
            None => {
                let title = format!("{}: preflight of {}", deployment.spec.app, attempt.name);
                let progress = StepProgress::begin(deployment.host, title);
                let result = run_on_free_port(attempt, spec, &progress)
                    .and_then(|(verdict, completed)| judge(attempt, verdict, &completed))
                    .map_err(|failure| spare_if_host_is_unhealthy(deployment, failure));
                progress.end(&result);
                result
            }
        },
    )
}

/// A failure proves nothing about the release while the running one fails its health check as well: a database may
/// be down.
fn spare_if_host_is_unhealthy(deployment: &Deployment<'_>, failure: Failure) -> Failure {
    let release = deployment.spec;
    let may_decide = failure.is(FailureKind::Permanent) && deployment.previous.is_some();
    let (true, Some(health)) = (may_decide, &release.health) else {
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

/// Runs an instance on another port while other users take the one that it got.
fn run_on_free_port(
    attempt: &Attempt<'_, '_>,
    spec: &PreflightSpec,
    progress: &StepProgress<'_>,
) -> Result<(Verdict, CompletedCommand), Failure> {
    let run_instance = || run_instance(attempt, spec, progress);
    for _ in 1..MAX_PORTS {
        match run_instance()? {
            (Verdict::Failed(failure), _) if failure.is(FailureKind::Conflict) => {
                tracing::warn!("{}: {failure}", attempt.deployment.spec.app);
            }
            other => return Ok(other),
        }
    }
    run_instance()
}

/// What a verdict means for the deployment.
fn judge(
    attempt: &Attempt<'_, '_>,
    verdict: Verdict,
    completed: &CompletedCommand,
) -> Result<StageOutcome, Failure> {
    let deployment = attempt.deployment;
    deployment.check_stop()?;
    // Until then the app may be one that cannot run twice on a host, and the gate decides.
    let has_passed_before = attempt.record.has_done(Stage::Preflight);
    let is_first_release = deployment.previous.is_none();
    let failure = match verdict {
        Verdict::Passed => return Ok(StageOutcome::Done),
        Verdict::Stopped => return Err(Failure::stopped()),
        Verdict::Failed(failure) => failure,
        Verdict::Ended { .. } if !has_passed_before && met_a_taken_port(completed) => {
            return Ok(skip(
                deployment,
                "it ignores the port in `PORT`: it met a port that is taken",
            ));
        }
        Verdict::NeverListened { .. } if !has_passed_before => {
            return Ok(skip(
                deployment,
                "it ignores the port in `PORT`: it did not listen there",
            ));
        }
        Verdict::Ended { how, .. } if !has_passed_before && !is_first_release => {
            return Ok(skip(deployment, &format!("it {how}")));
        }
        Verdict::Ended {
            how,
            was_killed: true,
        } => Failure::new(format!("the app {how}")).hint(
            "nothing is quarantined: the host may be short of memory; the next pass tries again",
        ),
        Verdict::Ended { how, .. } => Failure::permanent(format!("the app {how}")),
        Verdict::NeverListened { port, limit } => Failure::permanent(format!(
            "the app did not listen on port {port} (`PORT`) within {} s",
            limit.as_secs()
        )),
    };
    let failure = match completed.output.tail(MAX_SHOWN_LINES) {
        tail if tail.is_empty() => failure,
        tail => failure.with_log_tail(&tail),
    };
    Err(failure)
}

/// No release of the app ever passed a preflight here, so a preflight says nothing about it.
fn skip(deployment: &Deployment<'_>, symptom: &str) -> StageOutcome {
    tracing::warn!(
        "{}: deployed without a preflight that passed, as none has passed here yet: {symptom}; let `preflight.command` \
         start the app a second time on the port in `PORT`, or set `preflight: null`",
        deployment.spec.app
    );
    StageOutcome::Skipped(symptom.to_owned())
}

/// Whether the app met a port that is taken: then it did not listen on the one in `PORT`. Only the text of its
/// error says so; it decides no more than whether the release is spared.
fn met_a_taken_port(ended: &CompletedCommand) -> bool {
    let output = ended.output.tail(MAX_SEARCHED_LINES).to_lowercase();
    ["eaddrinuse", "address already in use"]
        .iter()
        .any(|text| output.contains(text))
}
