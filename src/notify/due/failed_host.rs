//! A host that failed, and the cause that it may share with others.

use super::{Subject, short_digest};
use crate::notify::notice::{Notice, NoticeFailure, line, log_tail};
use crate::printable::without_numbers;

/// A host that failed.
pub(super) struct FailedHost<'a> {
    pub node: &'a str,
    pub stage: Option<&'a str>,
    pub reason: &'a str,
    pub log_tail: &'a str,
}

impl FailedHost<'_> {
    /// Describes the failure of so many hosts.
    pub(super) fn describe(
        &self,
        subject: Subject<'_>,
        sha: &str,
        hosts: usize,
        notice: &mut Notice,
    ) {
        let stage = self
            .stage
            .map_or(String::new(), |stage| format!("{stage}: "));
        let more = match hosts - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let text = format!(
            "{sha} failed on {}{more}: {stage}{}",
            self.node, self.reason
        );
        notice.summary = subject.summary(&text);
        notice.failure = Some(NoticeFailure {
            node: line(self.node),
            stage: self.stage.map(line),
            reason: line(self.reason),
            log_tail: log_tail(self.log_tail),
            hosts,
        });
        notice.add_command(
            "look at it",
            format!(
                "trueup rollout status {} {}",
                subject.environment, subject.app
            ),
        );
    }
}

/// Identifies a cause: the same one has other numbers on each host.
pub(super) fn cause(stage: Option<&str>, reason: &str) -> String {
    short_digest(&format!("{stage:?} {}", without_numbers(reason)))
}
