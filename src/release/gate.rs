//! The stage that decides whether a release stays: what runs is looked at, and the app is asked.
//!
//! A command that returned 0 proves nothing. A release is good once every service that runs from it
//! has its processes in it, and its health check answers, several times in a row.

use std::io::Write;

use super::activate;
use super::attempt::Attempt;
use super::entry::{Ended, Note, Stage, Standing};
use super::hooks::{self, When};
use super::keep;
use super::listener::{self, RunsAs};
use super::orders::{Barred, Orders};
use super::record::{self, Record, Trial};
use super::spec::LOOK_EVERY;
use super::{Deployment, Spec, run};
use crate::ports::{Host, pause};
use crate::resource::{Failure, Verdict};

/// Where a release that failed its trial left the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Back {
    /// At this release, which was active before and is now on trial itself.
    To(String),
    /// There is no good release to go back to: everything is left as it is.
    Nowhere,
}

/// Watches what `processes` says and what the health check answers until both were right often
/// enough in a row, or the deadline has passed.
pub fn watch(
    spec: &Spec,
    host: &Host,
    processes: &mut dyn FnMut() -> Result<(), Failure>,
    runs_as: RunsAs<'_>,
) -> Result<Verdict, Failure> {
    let sha = match on_trial(spec, host)? {
        Some((d, mut record, trial)) => {
            if !trial.back
                && let Some(failure) = before(&d, &mut record, &trial)
            {
                return Ok(Verdict::Failed(failure));
            }
            Some(d.sha)
        }
        None => None,
    };
    let (deadline, times, every) = spec.gate();
    let begun = host.clock.tick();
    let mut in_a_row = 0;
    let mut disturbed = None;
    loop {
        if host.stop.is_set() {
            return Ok(Verdict::Stopped);
        }
        let looked = match processes() {
            Ok(()) => spec.ask_health(sha.as_ref(), host, runs_as),
            Err(failure) => Err(listener::disturbed(spec, host, runs_as).unwrap_or(failure)),
        };
        let failure = match looked {
            Ok(()) => {
                in_a_row += 1;
                if in_a_row >= times {
                    return Ok(Verdict::Proven);
                }
                None
            }
            Err(failure) => {
                in_a_row = 0;
                // An app that found its port taken may go on without it when it is free again.
                if failure.disturbed {
                    disturbed = Some(failure.clone());
                }
                Some(failure)
            }
        };
        let now = host.clock.tick();
        if now.saturating_duration_since(begun) >= deadline {
            let failure = failure.unwrap_or_else(|| {
                Failure::new(format!("it was right only {in_a_row} of {times} times"))
            });
            let failure = disturbed.unwrap_or(failure);
            let failure = Failure {
                message: format!(
                    "not proven within {} s: {}",
                    deadline.as_secs(),
                    failure.message
                ),
                ..failure
            };
            return Ok(match failure.disturbed {
                true => Verdict::Disturbed(failure),
                false => Verdict::Failed(failure),
            });
        }
        // What is not right yet may be in a moment; what is right has to stay so for a while.
        pause::of(if failure.is_some() {
            every.min(LOOK_EVERY)
        } else {
            every
        });
    }
}

/// What the hooks before the gate have against the release: a smoke test, say.
fn before(d: &Deployment<'_>, record: &mut Record, trial: &Trial) -> Option<Failure> {
    let mut attempt = Attempt {
        d,
        record,
        name: trial.name.clone(),
    };
    hooks::run(&mut attempt, When::Before, Stage::Gate).err()
}

/// The trial of the active release ended well.
pub fn confirm(spec: &Spec, host: &Host) -> Result<(), Failure> {
    let Some((d, mut record, trial)) = on_trial(spec, host)? else {
        return Ok(());
    };
    record.set_trial(None);
    let mut attempt = Attempt {
        d: &d,
        record: &mut record,
        name: trial.name.clone(),
    };
    note(&mut attempt, Ended::Done, None);
    attempt.enter(Standing::Good, None);
    attempt.save()?;
    // From here on it serves: what goes wrong now is told and takes nothing back.
    for done in [
        hooks::run(&mut attempt, When::After, Stage::Gate),
        keep_stage(&mut attempt),
        super::stock_up(attempt.d, attempt.record),
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

fn keep_stage(attempt: &mut Attempt<'_, '_>) -> Result<(), Failure> {
    hooks::run(attempt, When::Before, Stage::Keep)?;
    keep::prune(attempt.d, attempt.record)?;
    hooks::run(attempt, When::After, Stage::Keep)
}

/// The trial of the active release failed: it is bad, its sha is quarantined, and the release that
/// was active before comes back, on trial in its turn.
pub fn put_back(spec: &Spec, host: &Host, why: &Failure) -> Result<Back, Failure> {
    let Some((d, mut record, trial)) = on_trial(spec, host)? else {
        return Ok(Back::Nowhere);
    };
    bar(&d, &trial, why)?;
    let to = back_to(&record, &trial);
    let mut attempt = Attempt {
        d: &d,
        record: &mut record,
        name: trial.name.clone(),
    };
    note(&mut attempt, Ended::Failed, Some(&why.message));
    attempt.enter(Standing::Bad, why.message.lines().next().map(str::to_owned));
    go_back(&mut attempt, to)
}

/// What an earlier pass was killed in the middle of: a bad release is active still.
pub fn leave_bad(spec: &Spec, host: &Host, name: &str) -> Result<Back, Failure> {
    let layout = spec.layout();
    let mut record = Record::load(host, &layout)?;
    let Some(entry) = record.find(name) else {
        return Ok(Back::Nowhere);
    };
    let d = Deployment::new(spec, &entry.sha, host)?;
    let to = record.before(name).map(|entry| entry.name.clone());
    let mut attempt = Attempt {
        d: &d,
        record: &mut record,
        name: name.to_owned(),
    };
    go_back(&mut attempt, to)
}

fn go_back(attempt: &mut Attempt<'_, '_>, to: Option<String>) -> Result<Back, Failure> {
    let d = attempt.d;
    let Some(to) = to else {
        attempt.record.set_trial(None);
        attempt.save()?;
        return Ok(Back::Nowhere);
    };
    attempt.record.set_trial(Some(Trial {
        name: to.clone(),
        from: None,
        back: true,
    }));
    attempt.save()?;
    let bad = attempt.name.clone();
    let hooked = hooks::run_rollback(attempt, When::Before);
    if let Err(failure) = hooked {
        tracing::warn!("{}: {failure}; going back all the same", d.spec.app);
    }
    activate::point_to(d, &to)?;
    activate::log(
        d,
        &format!("trueup took back release {bad} and went back to {to}"),
    );
    attempt.record.last(&to);
    attempt.save()?;
    attempt.name = to.clone();
    if let Err(failure) = hooks::run_rollback(attempt, When::After) {
        tracing::warn!("{}: {failure}", d.spec.app);
    }
    Ok(Back::To(to))
}

/// The release to go back to: the one that was active before, if it is good, else the last good one.
fn back_to(record: &Record, trial: &Trial) -> Option<String> {
    if trial.back {
        return None;
    }
    let from = trial.from.as_deref().and_then(|name| record.find(name));
    from.filter(|entry| entry.state == Standing::Good)
        .or_else(|| record.before(&trial.name))
        .map(|entry| entry.name.clone())
}

fn bar(d: &Deployment<'_>, trial: &Trial, why: &Failure) -> Result<(), Failure> {
    let mut orders = Orders::load(d.host, &d.layout)?;
    orders.bar(Barred {
        sha: d.sha.clone(),
        release: trial.name.clone(),
        at: d.host.clock.now(),
        why: why.message.clone(),
    });
    orders.save(d.host, &d.layout)?;
    // What a service printed is for the log, which is root's alone.
    let now = d.host.clock.now();
    let mut log = run::open_log(d, &trial.name)?;
    let heading = run::heading(Stage::Gate, Stage::Gate.word(), &format!("{now:.0}"));
    let _ = writeln!(log, "{heading}\n{}", why.message);
    Ok(())
}

/// The app at the release that is active and on trial, if there is one.
fn on_trial<'a>(
    spec: &'a Spec,
    host: &'a Host,
) -> Result<Option<(Deployment<'a>, Record, Trial)>, Failure> {
    let layout = spec.layout();
    let record = Record::load(host, &layout)?;
    let active = record::current(host, &layout)?;
    let trial = record
        .trial()
        .filter(|trial| Some(&trial.name) == active.as_ref());
    let tried = trial.and_then(|trial| Some((trial.clone(), record.find(&trial.name)?)));
    let Some((trial, entry)) = tried else {
        return Ok(None);
    };
    let mut d = Deployment::new(spec, &entry.sha, host)?;
    let from = trial.from.as_deref().and_then(|from| record.find(from));
    d.previous = from.map(|entry| entry.sha.clone());
    Ok(Some((d, record, trial)))
}

/// Notes how the gate decided.
fn note(attempt: &mut Attempt<'_, '_>, ended: Ended, why: Option<&str>) {
    let now = attempt.d.host.clock.now();
    let activated = attempt.entry().note(Stage::Activate, None);
    let began = activated.map_or(now, |note| note.began);
    let took = now.duration_since(began).as_millis();
    attempt.put(Note {
        ended,
        took_ms: u64::try_from(took).unwrap_or(0),
        why: why.and_then(|why| why.lines().next()).map(str::to_owned),
        ..Note::done(Stage::Gate, began)
    });
}
