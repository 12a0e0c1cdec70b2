//! What the manifest calls for.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{PUBLISHED, Subject, Wanted, short_digest};
use crate::desired::{DeployNote, Hold, Transition};
use crate::notify::notice::{Notice, NoticeHold, line};

/// Notes of which there are notices.
const MAX_TASKS: usize = 20;

/// What the manifest calls for.
pub(crate) fn manifest_notices(subject: Subject<'_>, wanted: &Wanted) -> Vec<Notice> {
    let mut notices = vec![published(subject, wanted)];
    notices.extend(wanted.hold.as_ref().map(|hold| held(subject, wanted, hold)));
    notices.extend(
        wanted
            .notes
            .iter()
            .take(MAX_TASKS)
            .map(|task| to_do(subject, wanted, task)),
    );
    notices
}

/// The ids of what another notice says: a rollback that also holds.
pub(crate) fn implied_ids(wanted: &Wanted) -> BTreeSet<String> {
    let hold = wanted.hold.as_ref();
    let hold = hold.filter(|_| wanted.publication.is_rollback);
    hold.map(held_id).into_iter().collect()
}

/// The id of the notice that a sha is published.
pub(crate) fn published_id(wanted: &Wanted) -> String {
    Subject::publication_id(PUBLISHED, wanted)
}

/// The same as long as nobody publishes another sha, whatever else changes.
pub(crate) fn published_key(wanted: &Wanted) -> String {
    format!("{PUBLISHED}:{}", wanted.published.short())
}

fn published(subject: Subject<'_>, wanted: &Wanted) -> Notice {
    let publication = &wanted.publication;
    let sha = wanted.published.short();
    let by = publication.by.as_deref();
    let by = by.map_or(String::new(), |by| format!(" by {by}"));
    let from = publication.from.as_ref().or(wanted.previous.as_ref());
    let was = from.map_or(String::new(), |from| format!(", {} before", from.short()));
    let (transition, text) = match publication.is_rollback {
        true => (
            Transition::RolledBack,
            format!("rolled back to {sha}{by}{was}"),
        ),
        false => (Transition::Published, format!("{sha} published{by}{was}")),
    };
    let mut notice = subject.notice(published_id(wanted), transition, wanted);
    notice.to = Some(wanted.published.clone());
    notice.summary = subject.summary(&text);
    notice.from = from.cloned();
    notice.reference = publication.reference.as_deref().map(line);
    notice.by = publication.by.as_deref().map(line);
    notice.reason = publication.reason.as_deref().map(line);
    notice.hold = wanted.hold.as_ref().map(NoticeHold::of);
    notice.with_commits(&publication.commits);
    notice.with_notes(wanted.notes.iter().map(|task| task.text.as_str()));
    match (transition, &wanted.hold) {
        (Transition::RolledBack, Some(_)) => {
            let unhold = format!("trueup unhold {} {}", subject.environment, subject.app);
            notice.add_command("end the hold", unhold);
        }
        (Transition::RolledBack, None) => {}
        _ => notice.add_command("undo it", subject.undo()),
    }
    notice
}

fn held(subject: Subject<'_>, wanted: &Wanted, hold: &Hold) -> Notice {
    let mut notice = subject.notice(held_id(hold), Transition::Held, wanted);
    notice.summary = subject.summary(&hold.description());
    notice.by = Some(line(&hold.by));
    notice.hold = Some(NoticeHold::of(hold));
    let unhold = format!("trueup unhold {} {}", subject.environment, subject.app);
    notice.add_command("end it", unhold);
    notice
}

fn held_id(hold: &Hold) -> String {
    format!("held:{}", hold_digest(hold))
}

/// A hold to be remembered, with its id.
pub(crate) fn known_hold(hold: &Hold) -> (String, NoticeHold) {
    (hold_digest(hold), NoticeHold::of(hold))
}

/// Identifies a hold.
fn hold_digest(hold: &Hold) -> String {
    let parts = (
        &hold.sha,
        &hold.reason,
        &hold.by,
        hold.until.map(Timestamp::as_second),
    );
    short_digest(&format!("{parts:?}"))
}

/// The notice that a hold is over.
pub(crate) fn hold_ended(
    subject: Subject<'_>,
    wanted: &Wanted,
    hold: &NoticeHold,
    id: &str,
) -> Notice {
    let mut notice = subject.notice(format!("hold-ended:{id}"), Transition::HoldEnded, wanted);
    notice.summary = subject.summary(&format!("the hold of {} is over: {}", hold.by, hold.reason));
    notice.hold = Some(hold.clone());
    notice
}

fn to_do(subject: Subject<'_>, wanted: &Wanted, task: &DeployNote) -> Notice {
    let at = task.at.map(Timestamp::as_second);
    let id = format!(
        "note:{}",
        short_digest(&format!("{:?}", (&task.text, &task.by, at)))
    );
    let mut notice = subject.notice(id, Transition::Note, wanted);
    let by = task
        .by
        .as_deref()
        .map_or(String::new(), |by| format!(" ({by})"));
    notice.summary = subject.summary(&format!("to do by hand: {}{by}", task.text));
    notice.by = task.by.as_deref().map(line);
    notice.with_notes([task.text.as_str()].into_iter());
    let done = format!(
        "trueup note {} {} --done {}",
        subject.environment, subject.app, task.number
    );
    notice.add_command("tick it off", done);
    notice
}
