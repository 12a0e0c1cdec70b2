//! What the result on this host calls for, where each host goes by itself.

use super::failed_host::{FailedHost, cause};
use super::{ALONE, OwnResult, Subject, Wanted};
use crate::desired::Transition;
use crate::notify::notice::Notice;

/// What the result on this host calls for, where each host goes by itself.
pub(crate) fn own_notices(subject: Subject<'_>, wanted: &Wanted, own: &OwnResult) -> Vec<Notice> {
    let sha = wanted.sha.short();
    if let Some((stage, reason, output)) = &own.failure {
        let id = format!("failed:{sha}:{}", cause(stage.as_deref(), reason));
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
    let mut notice = subject.notice(
        Subject::publication_id(ALONE, wanted),
        Transition::Done,
        wanted,
    );
    notice.from.clone_from(&wanted.previous);
    let text = format!("{sha} is on {}; each host takes it by itself", subject.node);
    notice.summary = subject.summary(&text);
    notice.with_notes(wanted.notes.iter().map(|task| task.text.as_str()));
    notice.add_command("undo it", subject.undo());
    vec![notice]
}
