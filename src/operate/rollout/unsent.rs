//! Notices of the end of a rollout that no host has sent: perhaps none has a channel that the manifest names.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::RolloutTarget;
use crate::desired::{Environment, Transition};
use crate::fleet::rollout::{RolloutError, RolloutStore, register_key};
use crate::notify::{Notice, Parcel, RecordState, Subject, Wanted, read_board, register_notices};
use crate::ports::store::GetOutcome;

/// The end of an older rollout was perhaps before its channels.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(24);

/// Hosts look after 15 to 60 s whether a notice was sent, and send it.
const SENDING_TIME: SignedDuration = SignedDuration::from_secs(90);

/// The notices that the state of a rollout calls for and that no host has sent. One read of the register, and one of the
/// object of the notices, if the manifest names channels.
pub(super) fn unsent_notices(
    target: &RolloutTarget<'_>,
    environment: &Environment,
    generation: Option<u64>,
    now: Timestamp,
) -> Result<Vec<String>, RolloutError> {
    let Ok(settings) = &environment.settings else {
        return Ok(Vec::new());
    };
    if settings.notify.channels().next().is_none() {
        return Ok(Vec::new());
    }
    let (store, app) = (target.store, target.app);
    let desired = environment.desired_app(app, &BTreeMap::new(), now);
    let Some(Ok(desired)) = desired else {
        return Ok(Vec::new());
    };
    let wanted = Wanted::of(app, &desired, generation, settings.change.as_ref());
    let Some(register) = target.objects().register()?.map(|found| found.object) else {
        return Ok(Vec::new());
    };
    let opened = register.current(&wanted.sha).map(|entry| entry.opened);
    if opened.is_none_or(|opened| now.duration_since(opened) > MAX_AGE) {
        return Ok(Vec::new());
    }
    let subject = Subject {
        environment: target.environment,
        app,
        node: "",
        now,
    };
    let is_end = |notice: &Notice| {
        let ends = [Transition::Done, Transition::Halted, Transition::RolledBack];
        ends.contains(&notice.transition)
    };
    let mut ends = register_notices(subject, &wanted, &register);
    ends.retain(is_end);
    if ends.is_empty() {
        return Ok(Vec::new());
    }
    // A newer trueup wrote it, and knows better.
    let Some((board, _)) = read_board(store, target.environment, app)? else {
        return Ok(Vec::new());
    };
    let ended = match target
        .store
        .get(&register_key(target.environment, app), None)?
    {
        GetOutcome::Object(object) => Some(object.modified),
        GetOutcome::Missing | GetOutcome::Unchanged => None,
    };
    let is_fresh = ended.is_some_and(|at| now.duration_since(at) < SENDING_TIME);
    let mut unsent = Vec::new();
    for notice in &ends {
        let wants = |channel: &&str| settings.notify.wants(channel, notice.transition);
        for channel in settings.notify.channels().filter(wants) {
            let parcel = Parcel {
                id: notice.id.clone(),
                channel: channel.to_owned(),
            };
            let record = board.record(&parcel);
            let word = notice.transition.word();
            match record.map(|record| record.state) {
                Some(RecordState::Sent) => {}
                Some(RecordState::Claimed) => {
                    let by = record.map_or("", |record| &record.by);
                    unsent.push(format!("{word} to {channel}: {by} is at it"));
                }
                Some(RecordState::Failed) => {
                    let by = record.map_or("", |record| &record.by);
                    unsent.push(format!(
                        "{word} to {channel}: it failed, last on {by}: `trueup status` there"
                    ));
                }
                None if is_fresh => {}
                None => unsent.push(format!(
                    "{word} to {channel}: no host has sent it; does one define this channel?"
                )),
            }
        }
    }
    Ok(unsent)
}
