//! The gate stage, which decides whether a release stays: inspects the running services and polls the health
//! check.
//!
//! A command that returned 0 proves nothing. A release is good once every service that runs from it has its
//! processes in it, and its health check succeeds, several times in a row.

use std::time::Duration;

use super::attempt::Attempt;
use super::drain;
use super::hooks::{self, HookTiming};
use super::keep;
use super::listener::{self, ServiceUids};
use super::poll::{PollTiming, poll_until_proven};
use super::spare::prepare_spare;
use crate::desired::Sha;
use crate::ports::Host;
use crate::release::app::spec::{POLL_INTERVAL, ReleaseSpec};
use crate::release::app::stage::Stage;
use crate::release::deployment::Deployment;
use crate::release::record::entry::{ReleaseStatus, StageEntry, StageStatus};
use crate::release::record::overrides::Overrides;
use crate::release::record::{self, RecordedBake, RecordedTrial, ReleaseRecord};
use crate::resource::{Failure, TrialOutcome};

/// Polls `check_services` and the health check until both succeeded often enough in a row, or the time limit
/// has passed.
pub(crate) fn poll_gate(
    spec: &ReleaseSpec,
    host: &Host,
    check_services: &mut dyn FnMut() -> Result<(), Failure>,
    runs_as: ServiceUids<'_>,
) -> Result<TrialOutcome, Failure> {
    let mut fail_after = spec.fail_after();
    let sha = match load_trial(spec, host)? {
        Some((deployment, _, trial)) => {
            if trial.is_repeated {
                // It answered rightly before, so what it needs may come back: it has the whole time.
                fail_after = spec.gate_timing().0;
            }
            // Its hooks have run.
            let is_first = !trial.is_rollback && !trial.is_repeated;
            if is_first && let Some(failure) = run_before_hooks(&deployment, &trial) {
                return Ok(TrialOutcome::Failed(failure));
            }
            Some(deployment.sha)
        }
        None => None,
    };
    let mut check = || poll_once(spec, host, sha.as_ref(), check_services, runs_as);
    let timing = PollTiming::of_gate(spec, None);
    Ok(poll_until_proven(&timing, host, fail_after, &mut check))
}

/// Polls the services alone, after those that follow the gate were started: nothing but their staying up for a while
/// shows that they run.
pub(crate) fn poll_services(
    spec: &ReleaseSpec,
    host: &Host,
    check_services: &mut dyn FnMut() -> Result<(), Failure>,
) -> TrialOutcome {
    let timing = PollTiming {
        uptime: MIN_UPTIME,
        ..PollTiming::of_gate(spec, POLL_INTERVAL)
    };
    poll_until_proven(&timing, host, spec.fail_after(), check_services)
}

/// How long all services have to be up after those that follow the gate were started.
const MIN_UPTIME: Duration = Duration::from_secs(5);

/// The same after a restart of the active release, at `sha`: runs no hook, and leaves a trial as it is.
pub(crate) fn poll_restarted(
    spec: &ReleaseSpec,
    host: &Host,
    sha: Option<&Sha>,
    check_services: &mut dyn FnMut() -> Result<(), Failure>,
    runs_as: ServiceUids<'_>,
) -> TrialOutcome {
    let timing = PollTiming::of_gate(spec, None);
    poll_until_proven(&timing, host, spec.fail_after(), &mut || {
        poll_once(spec, host, sha, check_services, runs_as)
    })
}

/// Checks the services, and then the health of the app.
fn poll_once(
    spec: &ReleaseSpec,
    host: &Host,
    sha: Option<&Sha>,
    check_services: &mut dyn FnMut() -> Result<(), Failure>,
    runs_as: ServiceUids<'_>,
) -> Result<(), Failure> {
    match check_services() {
        Ok(()) => spec.check_health(sha, host, runs_as),
        Err(failure) => Err(listener::port_conflict(spec, host, runs_as).unwrap_or(failure)),
    }
}

/// Runs the hooks before the gate, such as a smoke test; returns their failure.
fn run_before_hooks(deployment: &Deployment<'_>, trial: &RecordedTrial) -> Option<Failure> {
    hooks::run(deployment, &trial.name, HookTiming::Before, Stage::Gate).err()
}

/// Ends the trial of the active release as passed.
pub(crate) fn record_proven(spec: &ReleaseSpec, host: &Host) -> Result<(), Failure> {
    let (deployment, mut record, trial) = load_trial(spec, host)?.ok_or_else(trial_lost)?;
    record.set_trial(None);
    // A pass that was killed while it rolled back may have left it.
    for sha in record
        .find(&trial.name)
        .iter()
        .flat_map(|entry| entry.shas())
    {
        Overrides::lift_quarantine(host, &deployment.layout, sha)?;
    }
    if trial.is_repeated {
        return record.save(host, &deployment.layout);
    }
    let entry = record.find(&trial.name);
    let is_new = entry.is_some_and(|entry| entry.state != ReleaseStatus::Good);
    record.set_bake(is_new.then(|| RecordedBake {
        name: trial.name.clone(),
        from: trial.from.clone(),
        until: host.clock.now() + spec.bake(),
        crashes: 0,
    }));
    let mut attempt = Attempt {
        deployment: &deployment,
        record: &mut record,
        name: trial.name.clone(),
    };
    record_gate(&mut attempt, StageStatus::Done, None);
    attempt.set_status(ReleaseStatus::Good, None);
    attempt.save()?;
    // Before the hooks and the cleaning up, which may take long.
    drain::end_drain(spec, host);
    // From here on it serves: later failures are logged and roll nothing back.
    for done in [
        hooks::run(
            attempt.deployment,
            &attempt.name,
            HookTiming::After,
            Stage::Gate,
        ),
        run_keep_stage(&mut attempt),
        prepare_spare(attempt.deployment, attempt.record),
    ] {
        if let Err(failure) = done {
            tracing::warn!(
                "{}: after {} was activated: {failure}",
                spec.app,
                trial.name
            );
        }
    }
    Ok(())
}

/// Asks the health check of the active release, as one poll of the gate does.
pub(crate) fn check_active(
    spec: &ReleaseSpec,
    host: &Host,
    runs_as: ServiceUids<'_>,
) -> Result<(), Failure> {
    let active = record::active(host, &spec.layout(), spec.keep_releases)?;
    let sha = active.and_then(|active| active.sha);
    spec.check_health(sha.as_ref(), host, runs_as)
}

/// How often the services of the new release had crashed when it passed its gate.
pub(crate) fn crashes_at_gate(spec: &ReleaseSpec, host: &Host) -> Result<u32, Failure> {
    let record = ReleaseRecord::load(host, &spec.layout())?;
    Ok(record.bake().map_or(0, |bake| bake.crashes))
}

/// Records how often the services of the new release have crashed by now.
pub(crate) fn record_crashes(spec: &ReleaseSpec, host: &Host, crashes: u32) -> Result<(), Failure> {
    let layout = spec.layout();
    let mut record = ReleaseRecord::load(host, &layout)?;
    let Some(bake) = record
        .bake()
        .filter(|bake| bake.crashes != crashes)
        .cloned()
    else {
        return Ok(());
    };
    record.set_bake(Some(RecordedBake { crashes, ..bake }));
    record.save(host, &layout)
}

/// Puts the active release on trial again, after it became unhealthy while it was new. `crashed`: if its services
/// crashed too often, how often.
pub(crate) fn repeat_trial(
    spec: &ReleaseSpec,
    host: &Host,
    crashed: Option<String>,
) -> Result<(), Failure> {
    let layout = spec.layout();
    let mut record = ReleaseRecord::load(host, &layout)?;
    let Some(bake) = record.bake().cloned() else {
        return Ok(());
    };
    record.set_trial(Some(RecordedTrial {
        name: bake.name,
        from: bake.from,
        is_rollback: false,
        is_repeated: true,
        crashed,
    }));
    record.save(host, &layout)
}

fn run_keep_stage(attempt: &mut Attempt<'_, '_>) -> Result<(), Failure> {
    hooks::run(
        attempt.deployment,
        &attempt.name,
        HookTiming::Before,
        Stage::Keep,
    )?;
    keep::prune(attempt.deployment, attempt.record)?;
    hooks::run(
        attempt.deployment,
        &attempt.name,
        HookTiming::After,
        Stage::Keep,
    )
}

/// The deployment, record and trial of the active release, if it is on trial.
pub(super) fn load_trial<'a>(
    spec: &'a ReleaseSpec,
    host: &'a Host,
) -> Result<Option<(Deployment<'a>, ReleaseRecord, RecordedTrial)>, Failure> {
    let layout = spec.layout();
    let record = ReleaseRecord::load(host, &layout)?;
    let active = record::current(host, &layout)?;
    let trial = record
        .trial()
        .filter(|trial| Some(&trial.name) == active.as_ref());
    let tried = trial.and_then(|trial| Some((trial.clone(), record.find(&trial.name)?)));
    let Some((trial, entry)) = tried else {
        return Ok(None);
    };
    let mut deployment = Deployment::new(spec, &entry.sha, host)?;
    let from = trial.from.as_deref().and_then(|from| record.find(from));
    deployment.previous = from.map(|entry| entry.sha.clone());
    Ok(Some((deployment, record, trial)))
}

pub(super) fn trial_lost() -> Failure {
    Failure::new("the record of the trial was lost while it ran, so its result cannot be recorded")
}

/// Records the decision of the gate.
pub(super) fn record_gate(attempt: &mut Attempt<'_, '_>, status: StageStatus, why: Option<&str>) {
    let now = attempt.deployment.host.clock.now();
    let activated = attempt.entry().find_stage(Stage::Activate, None);
    let began = activated.map_or(now, |stage_entry| stage_entry.began);
    let took = now.duration_since(began).as_millis();
    attempt.put_stage(StageEntry {
        status,
        took_ms: u64::try_from(took).unwrap_or(0),
        why: why.map(str::to_owned),
        ..StageEntry::done(Stage::Gate, began)
    });
}
