//! Restarts, reloads and runs that a change made necessary and that have not happened yet.
//!
//! Nothing is "notified". For each resource with triggers a record says what it was last started
//! (loaded, run) with: the fingerprint of each thing that it depends on. It is owed a restart
//! exactly while that differs from what is on disk now. The record is written before anything is
//! changed and after a debt is paid, so a pass that is killed at any instant leaves the debt on
//! record, and the next pass pays it, once.
//!
//! A run that began after the last change of a thing was begun with it, whoever asked for it: an
//! operator's own restart pays the debt.

mod record_store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::resource::{Duty, ServiceRun, Stamp, Trigger};

pub use record_store::RecordStore;

/// What a resource was last started, loaded or run with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The run of the service that this is about; a command has none.
    pub run: Option<String>,
    /// The last reload of that run.
    #[serde(default)]
    pub load: Option<String>,
    /// Fingerprints by duty and by the id of what it depends on; empty: it was not there.
    pub with: BTreeMap<Duty, BTreeMap<String, String>>,
}

impl RunRecord {
    /// Forgets with what it was done last, so that it is due again. No fingerprint is a word.
    pub fn mark_owed(&mut self, duty: Duty, id: &str) {
        if let Some(with) = self.with.get_mut(&duty).and_then(|with| with.get_mut(id)) {
            "again".clone_into(with);
        }
    }
}

/// One duty that is due, and the ids whose change made it so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obligation {
    pub duty: Duty,
    pub causes: Vec<String>,
}

/// What is on disk now, by id.
pub type Stamps = BTreeMap<String, Stamp>;

/// What is due now. A service that does not run owes nothing: it will start with what is there.
pub fn due_obligations(
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
    let now = stamp.map_or("", |stamp| stamp.fingerprint.as_str());
    let then = record.and_then(|record| record.with.get(&duty)?.get(id));
    let Some(run) = run else {
        // A command: due when it never ran with this, unless there is nothing to run it for.
        return match then {
            Some(then) => then != now,
            None => stamp.is_some(),
        };
    };
    let same_run = record.is_some_and(|record| record.run.as_deref() == Some(run.id.as_str()));
    // A supervisor may forget when it last reloaded (systemd does at its own reload): then nobody
    // is known to have loaded it since.
    let same_load =
        run.reload_id.is_none() || record.is_some_and(|record| record.load == run.reload_id);
    if let Some(then) = then
        && same_run
        && (duty == Duty::Restart || same_load)
    {
        // Within one run the record alone decides: the clock may have been set back.
        return then != now;
    }
    // Somebody else started or loaded it since, or it was never seen: then times must tell.
    let taken_up = match duty {
        Duty::Reload => run.started_at.max(run.reloaded_at),
        _ => run.started_at,
    };
    match (stamp.and_then(|stamp| stamp.changed_at), taken_up) {
        (Some(changed), Some(taken_up)) => taken_up <= changed,
        // No time to tell by: what was seen before decides, and what never was is taken to be right.
        _ => then.is_some_and(|then| then != now),
    }
}

/// The record after `paid` was done: what is owed stays as it was, all else is as on disk now.
pub fn updated_record(
    record: Option<&RunRecord>,
    run: Option<&ServiceRun>,
    triggers: &[Trigger],
    stamps: &Stamps,
    fulfilled: &[Duty],
) -> RunRecord {
    let debts = due_obligations(record, run, triggers, stamps);
    let open = |duty, id: &String| {
        !fulfilled.contains(&duty)
            && debts
                .iter()
                .any(|debt| debt.duty == duty && debt.causes.contains(id))
    };
    let any_open = debts.iter().any(|debt| !fulfilled.contains(&debt.duty));
    let mut settled = RunRecord {
        // While something is owed, the run that owes it stays on record.
        run: match record {
            Some(record) if any_open => record.run.clone(),
            _ => run.map(|run| run.id.clone()),
        },
        load: match record {
            Some(record) if any_open => record.load.clone(),
            _ => run.and_then(|run| run.reload_id.clone()),
        },
        with: BTreeMap::new(),
    };
    for trigger in triggers {
        let with = settled.with.entry(trigger.duty).or_default();
        for id in &trigger.on {
            let fingerprint = if open(trigger.duty, id) {
                record
                    .and_then(|record| record.with.get(&trigger.duty)?.get(id))
                    .cloned()
            } else {
                Some(
                    stamps
                        .get(id)
                        .map_or(String::new(), |stamp| stamp.fingerprint.clone()),
                )
            };
            with.extend(fingerprint.map(|fingerprint| (id.clone(), fingerprint)));
        }
    }
    settled
}
