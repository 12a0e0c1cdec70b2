//! Goes back from a release that failed, to the last good one, and quarantines its sha.

use std::io::Write;

use super::activate;
use super::attempt::Attempt;
use super::gate::{load_trial, record_gate, trial_lost};
use super::hooks::{self, HookTiming};
use super::run;
use crate::ports::Host;
use crate::release::app::spec::ReleaseSpec;
use crate::release::app::stage::Stage;
use crate::release::deployment::Deployment;
use crate::release::record::entry::{ReleaseEntry, ReleaseStatus, StageEntry, StageStatus};
use crate::release::record::log::heading;
use crate::release::record::overrides::Overrides;
use crate::release::record::quarantine::QuarantinedSha;
use crate::release::record::{RecordedTrial, ReleaseRecord};
use crate::resource::Failure;

/// The state of the app after a failed trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RollbackOutcome {
    /// The release that was active before is active again, and on trial itself.
    RolledBack(String),
    /// There is no good release to roll back to. The failed one stays active and on trial: it is the first one here, so
    /// the host may be the cause, and nothing is quarantined.
    NoTarget,
    /// The failed release was itself restored. It stays active and on trial, because it was good before: what it
    /// needs, such as its database, is the likelier cause.
    RestoredIsUnhealthy,
}

/// Ends the trial of the active release as failed: marks it bad, quarantines its sha, and rolls back to the
/// release that was active before, which is then on trial itself.
pub(crate) fn restore_previous(
    spec: &ReleaseSpec,
    host: &Host,
    why: &Failure,
) -> Result<RollbackOutcome, Failure> {
    let (deployment, mut record, trial) = load_trial(spec, host)?.ok_or_else(trial_lost)?;
    if trial.is_rollback {
        return Ok(RollbackOutcome::RestoredIsUnhealthy);
    }
    let to = rollback_target(&record, &trial.name, trial.from.as_deref());
    let mut attempt = Attempt {
        deployment: &deployment,
        record: &mut record,
        name: trial.name.clone(),
    };
    record_gate(&mut attempt, StageStatus::Failed, Some(&why.summary()));
    let Some(to) = to else {
        // It stays, so its crashes so far do not count any more.
        attempt.record.set_trial(Some(RecordedTrial {
            crashed: None,
            ..trial
        }));
        attempt.save()?;
        return Ok(RollbackOutcome::NoTarget);
    };
    quarantine(&deployment, attempt.entry(), why)?;
    write_to_log(&deployment, &attempt.name, &why.message)?;
    attempt.set_status(ReleaseStatus::Bad, Some(why.summary()));
    restore(
        &deployment,
        &mut record,
        &trial.name,
        &to,
        trial.is_repeated,
    )?;
    Ok(RollbackOutcome::RolledBack(to))
}

/// Goes forward again to the release that had passed its gate and was taken back, because the restored release fails
/// as well: the cause is something that both need. It is on trial, nothing is quarantined, and nothing more is tried.
/// Returns its name; `None`: the release that was taken back had never passed.
pub(crate) fn undo_rollback(spec: &ReleaseSpec, host: &Host) -> Result<Option<String>, Failure> {
    let (deployment, mut record, trial) = load_trial(spec, host)?.ok_or_else(trial_lost)?;
    let proven = trial.from.as_deref().filter(|_| trial.is_rollback);
    let Some(entry) = proven.and_then(|name| record.find_mut(name)) else {
        return Ok(None);
    };
    (entry.state, entry.why) = (ReleaseStatus::Good, None);
    let name = entry.name.clone();
    for sha in entry.shas() {
        Overrides::lift_quarantine(host, &deployment.layout, sha)?;
    }
    restore(&deployment, &mut record, &trial.name, &name, false)?;
    Ok(Some(name))
}

/// Finishes a rollback in which an earlier pass was killed: a bad release is still active. Returns whether there
/// is a release to go back to.
pub(crate) fn finish_rollback(
    spec: &ReleaseSpec,
    host: &Host,
    name: &str,
) -> Result<bool, Failure> {
    let layout = spec.layout();
    let mut record = ReleaseRecord::load(host, &layout)?;
    let Some(entry) = record.find(name) else {
        return Ok(false);
    };
    let deployment = Deployment::new(spec, &entry.sha, host)?;
    let Some(to) = rollback_target(&record, name, None) else {
        record.set_trial(None);
        record.save(host, &layout)?;
        return Ok(false);
    };
    restore(&deployment, &mut record, name, &to, false)?;
    Ok(true)
}

/// Writes why a release failed its gate to its log, which only root can read: a service's output may be part of it.
fn write_to_log(deployment: &Deployment<'_>, release: &str, why: &str) -> Result<(), Failure> {
    let now = deployment.host.clock.now();
    let mut log = run::open_log(deployment, release)?;
    let line = heading(Stage::Gate, Stage::Gate.as_str(), &format!("{now:.0}"));
    let _ = writeln!(log, "{line}\n{why}");
    Ok(())
}

/// Switches from the release `bad` to the release `to`, which is on trial from then on. `was_proven`: `bad` had passed
/// its gate before.
fn restore(
    deployment: &Deployment<'_>,
    record: &mut ReleaseRecord,
    bad: &str,
    to: &str,
    was_proven: bool,
) -> Result<(), Failure> {
    let (host, layout) = (deployment.host, &deployment.layout);
    record.set_trial(Some(RecordedTrial {
        name: to.to_owned(),
        from: was_proven.then(|| bad.to_owned()),
        is_rollback: true,
        is_repeated: false,
        crashed: None,
    }));
    record.set_bake(None);
    record.save(host, layout)?;
    if let Err(failure) = hooks::run_rollback(deployment, bad, HookTiming::Before) {
        tracing::warn!("{}: {failure}; rolling back anyway", deployment.spec.app);
    }
    activate::point_current_to(deployment, to)?;
    activate::append_revisions_log(
        deployment,
        &format!("trueup took back release {bad} and went back to {to}"),
    );
    record.set_last_activated(to);
    if let Some(entry) = record.find_mut(to) {
        // Its gate is timed from here.
        entry.put_stage(StageEntry::done(Stage::Activate, host.clock.now()));
    }
    record.save(host, layout)?;
    if let Err(failure) = hooks::run_rollback(deployment, to, HookTiming::After) {
        tracing::warn!("{}: {failure}", deployment.spec.app);
    }
    Ok(())
}

/// The release to roll back to: the one that was active before, if it is good, else the last good one.
fn rollback_target(record: &ReleaseRecord, bad: &str, before: Option<&str>) -> Option<String> {
    let before = before.and_then(|name| record.find(name));
    before
        .filter(|entry| entry.state == ReleaseStatus::Good)
        .or_else(|| record.previous_good(bad))
        .map(|entry| entry.name.clone())
}

/// Keeps the sha of a release that failed from being activated on this host, and the wanted one that has its files.
pub(crate) fn quarantine(
    deployment: &Deployment<'_>,
    entry: &ReleaseEntry,
    why: &Failure,
) -> Result<(), Failure> {
    let mut overrides = Overrides::load(deployment.host, &deployment.layout)?;
    let failed = QuarantinedSha {
        sha: entry.sha.clone(),
        release: entry.name.clone(),
        at: deployment.host.clock.now(),
        why: why.message.clone(),
        same_files_as: None,
    };
    let wanted = deployment.spec.wanted.as_ref();
    if let Some(wanted) = wanted.filter(|wanted| entry.equal_shas.contains(wanted)) {
        overrides.quarantine(failed.of_same_files(wanted, failed.at));
    }
    overrides.quarantine(failed);
    overrides.save(deployment.host, &deployment.layout)
}
