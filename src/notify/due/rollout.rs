//! What the register calls for.

use super::failed_host::{FailedHost, cause};
use super::{Subject, Wanted, short_digest};
use crate::desired::{OnFailure, Transition};
use crate::fleet::rollout::{Entry, EntryState, HaltCause, HaltRecord, Register, halt_command};
use crate::notify::notice::{HostProgress, Notice, NoticeFailure, line, log_tail};

/// Causes of failures of one entry of which there are notices: their reasons come from the store.
const MAX_CAUSES: usize = 5;

/// What the register calls for: the transitions of the entry of the wanted sha, as far as nothing has come after them.
pub(crate) fn register_notices(
    subject: Subject<'_>,
    wanted: &Wanted,
    register: &Register,
) -> Vec<Notice> {
    let Some(entry) = register.current(&wanted.sha) else {
        return Vec::new();
    };
    let rollout = RolloutNotices {
        subject,
        wanted,
        entry,
    };
    match (entry.state(), &entry.halt) {
        (EntryState::Open | EntryState::Superseded, _) => Vec::new(),
        (EntryState::Done, _) => vec![rollout.done()],
        (_, Some(halt)) => {
            let own = rollout.local_failures();
            [rollout.halted(halt)].into_iter().chain(own).collect()
        }
        (_, None) => {
            let mut notices = vec![rollout.started()];
            if !entry.canaries.is_empty() && !entry.skips_canary && entry.canaries_passed() {
                notices.push(rollout.canary_ok());
            }
            notices.extend(rollout.failures());
            notices
        }
    }
}

/// Whether somebody may paste a command: its step comes from the store.
fn is_plain(command: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || " -_./=:".contains(c);
    command.chars().all(is_plain)
}

struct RolloutNotices<'a> {
    subject: Subject<'a>,
    wanted: &'a Wanted,
    entry: &'a Entry,
}

impl RolloutNotices<'_> {
    fn notice(&self, kind: &str, transition: Transition) -> Notice {
        let (id, wanted) = (&self.entry.id, self.wanted);
        let id = format!("{kind}:{}:{}", id.sha.short(), id.generation);
        let mut notice = self.subject.notice(id, transition, wanted);
        notice.from.clone_from(&wanted.previous);
        self.add_publication(&mut notice, transition);
        notice.hosts = self.entry.count.map(|count| HostProgress {
            done: None,
            total: count.hosts as usize,
        });
        notice
    }

    /// Adds who published the sha, and what is in it, where that is what people ask next.
    fn add_publication(&self, notice: &mut Notice, transition: Transition) {
        let publication = &self.wanted.publication;
        if self.wanted.published != self.entry.id.sha {
            return;
        }
        notice.by = publication.by.as_deref().map(line);
        notice.reason = publication.reason.as_deref().map(line);
        notice.reference = publication.reference.as_deref().map(line);
        let is_end = !matches!(transition, Transition::Started | Transition::CanaryOk);
        if is_end && transition != Transition::Failed {
            notice.with_commits(&publication.commits);
        }
    }

    fn hosts(&self) -> String {
        let hosts = self.entry.count.map_or(0, |count| count.hosts);
        format!("{hosts} {}", if hosts == 1 { "host" } else { "hosts" })
    }

    fn sha(&self) -> &str {
        self.entry.id.sha.short()
    }

    fn started(&self) -> Notice {
        let mut notice = self.notice("started", Transition::Started);
        let canaries: Vec<String> = self.entry.canaries.iter().map(|c| line(&c.node)).collect();
        let first = match canaries.as_slice() {
            [] => String::new(),
            names => format!(", {} first", names.join(", ")),
        };
        let text = format!("{} goes to {}{first}", self.sha(), self.hosts());
        notice.summary = self.subject.summary(&text);
        notice.canaries = canaries;
        notice.add_command("undo it", self.subject.undo());
        notice
    }

    fn canary_ok(&self) -> Notice {
        let mut notice = self.notice("canary", Transition::CanaryOk);
        notice.canaries = self.entry.canaries.iter().map(|c| line(&c.node)).collect();
        let names = notice.canaries.join(", ");
        let text = format!("{} is good on {names}, the other hosts follow", self.sha());
        notice.summary = self.subject.summary(&text);
        notice.add_command("undo it", self.subject.undo());
        notice
    }

    fn done(&self) -> Notice {
        let mut notice = self.notice("done", Transition::Done);
        if let Some(hosts) = &mut notice.hosts {
            hosts.done = Some(hosts.total);
        }
        let text = format!("{} is on all hosts ({})", self.sha(), self.hosts());
        notice.summary = self.subject.summary(&text);
        let tasks = self.wanted.notes.iter().map(|task| task.text.as_str());
        notice.with_notes(tasks);
        notice.add_command("undo it", self.subject.undo());
        notice
    }

    fn halted(&self, halt: &HaltRecord) -> Notice {
        let Entry {
            id,
            epoch,
            failures,
            ..
        } = self.entry;
        let cause = short_digest(&format!(
            "{:?}",
            (halt.cause, &halt.step, &halt.by, &halt.reason)
        ));
        let is_sha = halt.cause == HaltCause::Quarantined;
        let goes_back = is_sha && self.wanted.on_failure == OnFailure::Rollback;
        let transition = match goes_back {
            true => Transition::RolledBack,
            false => Transition::Halted,
        };
        let mut notice = self.notice("halted", transition);
        notice.id = format!("{}:{epoch}:{cause}", notice.id);
        let back = self.wanted.previous.as_ref().filter(|_| goes_back);
        let back = back.map_or(String::new(), |sha| {
            format!(", hosts that have it go back to {}", sha.short())
        });
        let verb = if is_sha { "failed on" } else { "is halted by" };
        let text = format!("{} {verb} {}: {}{back}", self.sha(), halt.by, halt.reason);
        notice.summary = self.subject.summary(&text);
        let first = failures
            .iter()
            .find(|failure| failure.member.node == halt.by);
        let first = first.or(failures.first()).filter(|_| is_sha);
        notice.failure = Some(NoticeFailure {
            node: line(first.map_or(&halt.by, |failure| &failure.member.node)),
            stage: halt.step.as_deref().map(line),
            reason: line(first.map_or(&halt.reason, |failure| &failure.reason)),
            log_tail: log_tail(first.map_or("", |failure| &failure.log_tail)),
            hosts: self.entry.failure_count().max(1),
        });
        let (environment, app) = (self.subject.environment, self.subject.app);
        if is_sha {
            notice.add_command("go back", self.subject.undo());
            let lift = format!(
                "trueup rollout quarantine lift {environment} {app} --sha {} --reason TEXT",
                id.sha
            );
            notice.add_command("try it again", lift);
        } else if let Some(command) =
            halt_command(halt, &id.sha, (environment, app)).filter(|command| is_plain(command))
        {
            notice.add_command("go on", command);
        }
        notice
    }

    /// Failures that have not halted the entry.
    fn failures(&self) -> Vec<Notice> {
        let of_sha = self.entry.failures.iter();
        let of_sha = of_sha.map(|failure| FailedHost {
            node: &failure.member.node,
            stage: None,
            reason: &failure.reason,
            log_tail: &failure.log_tail,
        });
        self.by_cause(of_sha.chain(self.local_rows()))
    }

    /// Failures that are the hosts' own.
    fn local_failures(&self) -> Vec<Notice> {
        self.by_cause(self.local_rows())
    }

    fn local_rows(&self) -> impl Iterator<Item = FailedHost<'_>> {
        let rows = self.entry.local_failures.iter();
        rows.map(|failure| FailedHost {
            node: &failure.node,
            stage: failure.stage.as_deref(),
            reason: &failure.reason,
            log_tail: &failure.log_tail,
        })
    }

    /// One notice for each cause.
    fn by_cause<'f>(&self, failed: impl Iterator<Item = FailedHost<'f>>) -> Vec<Notice> {
        let mut causes: Vec<(String, FailedHost<'f>, usize)> = Vec::new();
        for host in failed {
            let cause = cause(host.stage, host.reason);
            let known = causes.iter().position(|(known, ..)| *known == cause);
            match known {
                Some(number) => causes[number].2 += 1,
                None if causes.len() < MAX_CAUSES => causes.push((cause, host, 1)),
                None => {}
            }
        }
        let notices = causes.into_iter().map(|(cause, host, hosts)| {
            let mut notice = self.notice("failed", Transition::Failed);
            notice.id = format!("{}:{}:{cause}", notice.id, self.entry.epoch);
            host.describe(self.subject, self.sha(), hosts, &mut notice);
            notice
        });
        notices.collect()
    }
}
