//! What the result on this host calls for, where each host goes by itself.

use jiff::Timestamp;

use super::failed_host::{FailedHost, cause};
use super::{OwnResult, Subject, Wanted};
use crate::desired::Transition;
use crate::notify::notice::Notice;

/// What the result on this host calls for, where each host goes by itself.
pub(crate) fn own_notices(subject: Subject<'_>, wanted: &Wanted, own: &OwnResult) -> Vec<Notice> {
    let at = wanted.publication.at.map_or(0, Timestamp::as_second);
    let sha = wanted.sha.short();
    if let Some((stage, reason, output)) = &own.failure {
        let id = format!("failed:{sha}:{at}:{}", cause(stage.as_deref(), reason));
        let mut notice = subject.notice(id, Transition::Failed, wanted);
        let host = FailedHost {
            node: subject.node,
            stage: stage.as_deref(),
            reason,
            log_tail: output,
        };
        host.describe(subject, sha, 1, &mut notice);
        return vec![notice];
    }
    if !own.is_proven {
        return Vec::new();
    }
    let mut notice = subject.notice(format!("done:{sha}:{at}"), Transition::Done, wanted);
    notice.from.clone_from(&wanted.previous);
    let text = format!("{sha} is on {}; each host takes it by itself", subject.node);
    notice.summary = subject.summary(&text);
    notice.with_notes(wanted.notes.iter().map(|task| task.text.as_str()));
    notice.add_command("undo it", subject.undo());
    vec![notice]
}
