//! Goes back from a release that failed, to the last good one, and quarantines its sha.

use std::io::Write;

use super::activate;
use super::attempt::Attempt;
use super::gate::{load_trial, record_gate};
use super::hooks::{self, HookTiming};
use super::run;
use crate::ports::Host;
use crate::release::app::spec::ReleaseSpec;
use crate::release::app::stage::Stage;
use crate::release::deployment::Deployment;
use crate::release::record::entry::{ReleaseStatus, StageEntry, StageStatus};
use crate::release::record::log::heading;
use crate::release::record::overrides::Overrides;
use crate::release::record::quarantine::QuarantinedSha;
use crate::release::record::{RecordedTrial, ReleaseRecord};
use crate::resource::Failure;

/// The state of the app after a failed trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RollbackOutcome {
    /// Rolled back to this release, which was active before and is now on trial itself.
    RolledBack(String),
    /// There is no good release to roll back to. The failed one stays active and on trial: it is the first one here, so
    /// the host may be the cause, and nothing is quarantined.
    NoTarget,
    /// The failed release was itself restored, so there is no further one. It stays active, and its sha is quarantined.
    MarkedBad,
}

/// Ends the trial of the active release as failed: marks it bad, quarantines its sha, and rolls back to the
/// release that was active before, which is then on trial itself.
pub(crate) fn restore_previous(
    spec: &ReleaseSpec,
    host: &Host,
    why: &Failure,
) -> Result<RollbackOutcome, Failure> {
    let Some((deployment, mut record, trial)) = load_trial(spec, host)? else {
        return Ok(RollbackOutcome::NoTarget);
    };
    if trial.is_rollback {
        mark_bad(spec, host, why)?;
        return Ok(RollbackOutcome::MarkedBad);
    }
    let to = rollback_target(&record, &trial);
    let mut attempt = Attempt {
        deployment: &deployment,
        record: &mut record,
        name: trial.name.clone(),
    };
    record_gate(&mut attempt, StageStatus::Failed, Some(why.summary()));
    if to.is_none() {
        attempt.save()?;
        return Ok(RollbackOutcome::NoTarget);
    }
    quarantine(&deployment, &trial.name, why)?;
    attempt.set_status(ReleaseStatus::Bad, Some(why.summary().to_owned()));
    restore(&mut attempt, to)
}

/// Ends the trial of a release that was rolled back to as failed. It stays active, and its sha is quarantined.
pub(crate) fn mark_bad(spec: &ReleaseSpec, host: &Host, why: &Failure) -> Result<(), Failure> {
    let Some((deployment, mut record, trial)) = load_trial(spec, host)? else {
        return Ok(());
    };
    quarantine(&deployment, &trial.name, why)?;
    let mut attempt = Attempt {
        deployment: &deployment,
        record: &mut record,
        name: trial.name.clone(),
    };
    record_gate(&mut attempt, StageStatus::Failed, Some(why.summary()));
    attempt.set_status(ReleaseStatus::Bad, Some(why.summary().to_owned()));
    attempt.record.set_trial(None);
    attempt.save()
}

/// Finishes a rollback in which an earlier pass was killed: a bad release is still active.
pub(crate) fn finish_rollback(
    spec: &ReleaseSpec,
    host: &Host,
    name: &str,
) -> Result<RollbackOutcome, Failure> {
    let layout = spec.layout();
    let mut record = ReleaseRecord::load(host, &layout)?;
    let Some(entry) = record.find(name) else {
        return Ok(RollbackOutcome::NoTarget);
    };
    let deployment = Deployment::new(spec, &entry.sha, host)?;
    let to = record.previous_good(name).map(|entry| entry.name.clone());
    let mut attempt = Attempt {
        deployment: &deployment,
        record: &mut record,
        name: name.to_owned(),
    };
    restore(&mut attempt, to)
}

fn restore(attempt: &mut Attempt<'_, '_>, to: Option<String>) -> Result<RollbackOutcome, Failure> {
    let deployment = attempt.deployment;
    let Some(to) = to else {
        attempt.record.set_trial(None);
        attempt.save()?;
        return Ok(RollbackOutcome::NoTarget);
    };
    attempt.record.set_trial(Some(RecordedTrial {
        name: to.clone(),
        from: None,
        is_rollback: true,
    }));
    attempt.save()?;
    let bad = attempt.name.clone();
    let hooked = hooks::run_rollback(attempt.deployment, &attempt.name, HookTiming::Before);
    if let Err(failure) = hooked {
        tracing::warn!("{}: {failure}; rolling back anyway", deployment.spec.app);
    }
    activate::point_current_to(deployment, &to)?;
    activate::append_revisions_log(
        deployment,
        &format!("trueup took back release {bad} and went back to {to}"),
    );
    attempt.record.set_last_activated(&to);
    attempt.name = to.clone();
    // Its gate is timed from here.
    let now = deployment.host.clock.now();
    attempt.put_stage(StageEntry::done(Stage::Activate, now));
    attempt.save()?;
    if let Err(failure) = hooks::run_rollback(attempt.deployment, &attempt.name, HookTiming::After)
    {
        tracing::warn!("{}: {failure}", deployment.spec.app);
    }
    Ok(RollbackOutcome::RolledBack(to))
}

/// The release to roll back to: the one that was active before, if it is good, else the last good one.
fn rollback_target(record: &ReleaseRecord, trial: &RecordedTrial) -> Option<String> {
    if trial.is_rollback {
        return None;
    }
    let from = trial.from.as_deref().and_then(|name| record.find(name));
    from.filter(|entry| entry.state == ReleaseStatus::Good)
        .or_else(|| record.previous_good(&trial.name))
        .map(|entry| entry.name.clone())
}

/// Keeps the sha of a release that failed from being activated on this host.
pub(crate) fn quarantine(
    deployment: &Deployment<'_>,
    release: &str,
    why: &Failure,
) -> Result<(), Failure> {
    let mut overrides = Overrides::load(deployment.host, &deployment.layout)?;
    overrides.quarantine(QuarantinedSha {
        sha: deployment.sha.clone(),
        release: release.to_owned(),
        at: deployment.host.clock.now(),
        why: why.message.clone(),
    });
    overrides.save(deployment.host, &deployment.layout)?;
    // A service's output belongs in the log, which only root can read.
    let now = deployment.host.clock.now();
    let mut log = run::open_log(deployment, release)?;
    let line = heading(Stage::Gate, Stage::Gate.as_str(), &format!("{now:.0}"));
    let _ = writeln!(log, "{line}\n{}", why.message);
    Ok(())
}
