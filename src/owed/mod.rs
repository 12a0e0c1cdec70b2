//! Restarts, reloads and runs that a change made necessary and that have not happened yet.
//!
//! Unlike Chef, trueup does not notify. For each resource with triggers a record holds the fingerprint of
//! each dependency that it was last started (loaded, run) with. The resource is owed a restart exactly while
//! that differs from what is on disk now. The record is written before anything is changed and after an
//! obligation is fulfilled, so a pass that is killed at any instant leaves the obligation on record, and the
//! next pass fulfills it, once.
//!
//! A run that began after the last change of a dependency uses it, no matter who started the run: an
//! operator's own restart fulfills the obligation.

mod record_store;
#[cfg(test)]
mod request_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::resource::{Duty, DutyOutcome, ServiceRun, Stamp, Trigger};

pub(crate) use record_store::RecordStore;

/// What a resource was last started, loaded or run with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunRecord {
    /// The run of the service that this is about; `None` for a command.
    pub run: Option<String>,
    /// The last reload of that run.
    #[serde(rename = "load", default)]
    pub reload_id: Option<String>,
    /// Fingerprints by duty and by the id of the dependency; empty if the dependency was missing.
    #[serde(rename = "with")]
    pub fingerprints: BTreeMap<Duty, BTreeMap<String, String>>,
}

impl RunRecord {
    /// Invalidates the recorded fingerprint: the duty is due until trueup fulfills it or the service is restarted. A
    /// reload by anybody else does not fulfill it: nothing proves that it succeeded.
    pub(crate) fn mark_owed(&mut self, duty: Duty, id: &str) {
        let with = self.fingerprints.entry(duty).or_default();
        with.insert(id.to_owned(), OWED.to_owned());
    }
}

/// The record while a reload is made that nothing has proven yet: all that is due stays due until then, also if trueup is
/// killed. Without it, the time of a reload that failed would count as that of one that succeeded.
pub(crate) fn record_of_unproven_reload(
    record: Option<&RunRecord>,
    run: Option<&ServiceRun>,
    triggers: &[Trigger],
    stamps: &Stamps,
) -> RunRecord {
    let due = due_obligations(record, run, triggers, stamps);
    // The marks are about the run that is to be reloaded, whichever the record was about.
    let duties = [Duty::Restart, Duty::Reload];
    let mut marked = updated_record(record, run, triggers, stamps, &duties);
    for obligation in due {
        for cause in &obligation.causes {
            marked.mark_owed(obligation.duty, cause);
        }
    }
    marked
}

/// In the place of a fingerprint, which is never a word.
const OWED: &str = "again";

/// A duty that is due, and the ids of the resources whose change caused it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Obligation {
    pub duty: Duty,
    pub causes: Vec<String>,
}

/// An obligation that a pass has fulfilled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FulfilledObligation {
    #[serde(flatten)]
    pub obligation: Obligation,
    /// What was done at runtime in its place, in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_runtime: Option<String>,
}

impl FulfilledObligation {
    pub(crate) fn new(obligation: Obligation, outcome: DutyOutcome) -> FulfilledObligation {
        FulfilledObligation {
            obligation,
            at_runtime: match outcome {
                DutyOutcome::AsNamed => None,
                DutyOutcome::AtRuntime(done) => Some(done),
            },
        }
    }
}

/// The stamps of what is on disk now, by resource id.
pub(crate) type Stamps = BTreeMap<String, Stamp>;

/// The obligations that are due now. A stopped service has none: it will start with what is on disk.
pub(crate) fn due_obligations(
    record: Option<&RunRecord>,
    run: Option<&ServiceRun>,
    triggers: &[Trigger],
    stamps: &Stamps,
) -> Vec<Obligation> {
    triggers
        .iter()
        .filter(|trigger| run.is_some() || trigger.duty == Duty::Run)
        .filter_map(|trigger| {
            let causes: Vec<String> = trigger
                .on
                .iter()
                .filter(|id| is_due(record, run, trigger.duty, id, stamps.get(*id)))
                .cloned()
                .collect();
            (!causes.is_empty()).then_some(Obligation {
                duty: trigger.duty,
                causes,
            })
        })
        .collect()
}

fn is_due(
    record: Option<&RunRecord>,
    run: Option<&ServiceRun>,
    duty: Duty,
    id: &str,
    stamp: Option<&Stamp>,
) -> bool {
    let on_disk = stamp.map_or("", |stamp| stamp.fingerprint.as_str());
    let recorded = record.and_then(|record| record.fingerprints.get(&duty)?.get(id));
    if stamp.is_some_and(|stamp| stamp.is_request) {
        // A run that an earlier trueup recorded, which knew no requests, began before this one was seen.
        let is_older_run = || is_same_run(record, run);
        return !on_disk.is_empty()
            && recorded.map_or_else(is_older_run, |recorded| recorded != on_disk);
    }
    let Some(run) = run else {
        // A command is due if it never ran with this stamp, unless there is nothing on disk to run it for.
        return match recorded {
            Some(recorded) => recorded != on_disk,
            None => stamp.is_some(),
        };
    };
    let same_run = is_same_run(record, Some(run));
    // A supervisor may forget when it last reloaded (systemd does at its own reload). Then no load since that
    // one is known.
    let same_load =
        run.reload_id.is_none() || record.is_some_and(|record| record.reload_id == run.reload_id);
    if let Some(recorded) = recorded
        && same_run
        && (duty == Duty::Restart || same_load || recorded == OWED)
    {
        // Within one run the record alone decides: the clock may have been set back.
        return recorded != on_disk;
    }
    // Another program started or reloaded it since, or trueup never recorded it: then the times decide.
    let taken_up = match duty {
        Duty::Reload => run.started_at.max(run.reloaded_at),
        _ => run.started_at,
    };
    match (stamp.and_then(|stamp| stamp.changed_at), taken_up) {
        (Some(changed), Some(taken_up)) => taken_up <= changed,
        // Without times the recorded fingerprint decides; a service without one counts as up to date.
        _ => recorded.is_some_and(|recorded| recorded != on_disk),
    }
}

fn is_same_run(record: Option<&RunRecord>, run: Option<&ServiceRun>) -> bool {
    let recorded = record.and_then(|record| record.run.as_deref());
    recorded.is_some() && recorded == run.map(|run| run.id.as_str())
}

/// The record after `fulfilled`: open obligations keep their old fingerprints, all else gets the one on disk
/// now.
pub(crate) fn updated_record(
    record: Option<&RunRecord>,
    run: Option<&ServiceRun>,
    triggers: &[Trigger],
    stamps: &Stamps,
    fulfilled: &[Duty],
) -> RunRecord {
    let obligations = due_obligations(record, run, triggers, stamps);
    let open = |duty, id: &String| {
        !fulfilled.contains(&duty)
            && obligations
                .iter()
                .any(|obligation| obligation.duty == duty && obligation.causes.contains(id))
    };
    let any_open = obligations
        .iter()
        .any(|obligation| !fulfilled.contains(&obligation.duty));
    let mut settled = RunRecord {
        // While an obligation is open, its run stays on record.
        run: match record {
            Some(record) if any_open => record.run.clone(),
            _ => run.map(|run| run.id.clone()),
        },
        reload_id: match record {
            Some(record) if any_open => record.reload_id.clone(),
            _ => run.and_then(|run| run.reload_id.clone()),
        },
        fingerprints: BTreeMap::new(),
    };
    for trigger in triggers {
        let with = settled.fingerprints.entry(trigger.duty).or_default();
        for id in &trigger.on {
            let recorded = || Some(record?.fingerprints.get(&trigger.duty)?.get(id)?.to_owned());
            let fingerprint = match stamps.get(id) {
                _ if open(trigger.duty, id) => recorded(),
                // A manifest that lost its request, and has it again later, asks for nothing new.
                Some(stamp) if stamp.is_request && stamp.fingerprint.is_empty() => {
                    Some(recorded().unwrap_or_default())
                }
                stamp => Some(stamp.map_or(String::new(), |stamp| stamp.fingerprint.clone())),
            };
            with.extend(fingerprint.map(|fingerprint| (id.clone(), fingerprint)));
        }
    }
    settled
}
