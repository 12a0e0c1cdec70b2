//! Which notices the state of an app calls for: a pure function of what a host reads anyway. Every host that reads the same
//! makes notices with the same ids.

use jiff::Timestamp;

use super::notice::{HostProgress, Notice, NoticeFailure, NoticeHold, line, log_tail};
use crate::desired::{Hold, OnFailure, Sha, Transition};
use crate::digest::digest;
use crate::fleet::rollout::{Entry, EntryState, HaltCause, HaltRecord, Register, halt_command};
use crate::printable::without_numbers;

/// Causes of failures of one entry of which there are notices: their reasons come from the store.
const MAX_CAUSES: usize = 5;

/// Digits of a digest in an id.
const ID_DIGITS: usize = 16;

/// What the manifest says about an app.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// What this host is to be at.
    pub sha: Sha,
    pub previous: Option<Sha>,
    pub publication: Publication,
    pub generation: Option<u64>,
    pub hold: Option<Hold>,
    pub notes: Vec<ManualTask>,
    pub on_failure: OnFailure,
}

/// The last act of somebody that set what is wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Publication {
    /// For example `publish` or `rollback`.
    pub action: String,
    pub by: Option<String>,
    pub at: Option<Timestamp>,
    pub reason: Option<String>,
    pub from: Option<Sha>,
    pub reference: Option<String>,
    pub commits: Vec<String>,
    /// The generation whose act set it; `None`: the manifest does not say it.
    pub generation: Option<u64>,
}

/// What somebody has to do by hand.
#[derive(Debug, Clone)]
pub(crate) struct ManualTask {
    pub text: String,
    pub by: Option<String>,
    pub at: Option<Timestamp>,
}

/// Where the app is on a host that goes by itself, without others.
#[derive(Debug, Clone, Default)]
pub(crate) struct OwnResult {
    pub is_proven: bool,
    /// The stage, the reason, and the end of the output.
    pub failure: Option<(Option<String>, String, String)>,
}

/// Of which app, for whom, when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub environment: &'a str,
    pub app: &'a str,
    /// This host.
    pub node: &'a str,
    /// By the store's clock.
    pub now: Timestamp,
}

impl Subject<'_> {
    fn notice(&self, id: String, transition: Transition, wanted: &Wanted) -> Notice {
        let mut notice = Notice::new(id, transition, (self.environment, self.app), self.now);
        notice.to = Some(wanted.sha.clone());
        notice.generation = wanted.generation;
        notice
    }

    fn undo(&self) -> String {
        format!("trueup rollback {} {}", self.environment, self.app)
    }

    /// `production/shop: TEXT`.
    fn summary(&self, text: &str) -> String {
        line(&format!("{}/{}: {text}", self.environment, self.app))
    }
}

/// What the manifest calls for.
pub(crate) fn manifest_notices(subject: Subject<'_>, wanted: &Wanted) -> Vec<Notice> {
    let mut notices = vec![published(subject, wanted)];
    // A rollback that also holds says so itself.
    let is_named = wanted.publication.action == "rollback";
    if let Some(hold) = wanted.hold.as_ref().filter(|_| !is_named) {
        notices.push(held(subject, wanted, hold));
    }
    notices.extend(wanted.notes.iter().map(|task| to_do(subject, wanted, task)));
    notices
}

/// The id of the notice that this sha is wanted.
pub(crate) fn published_id(wanted: &Wanted) -> String {
    let sha = wanted.sha.short();
    match (wanted.publication.generation, wanted.publication.at) {
        (Some(generation), _) => format!("published:{generation}"),
        (None, Some(at)) => format!("published:{sha}:{}", at.as_second()),
        (None, None) => format!("published:{sha}:{}", wanted.generation.unwrap_or(0)),
    }
}

fn published(subject: Subject<'_>, wanted: &Wanted) -> Notice {
    let publication = &wanted.publication;
    let sha = wanted.sha.short();
    let by = publication.by.as_deref();
    let by = by.map_or(String::new(), |by| format!(" by {by}"));
    let from = publication.from.as_ref().or(wanted.previous.as_ref());
    let was = from.map_or(String::new(), |from| format!(", {} before", from.short()));
    let (transition, text) = match publication.action == "rollback" {
        true => (
            Transition::RolledBack,
            format!("rolled back to {sha}{by}{was}"),
        ),
        false => (Transition::Published, format!("{sha} published{by}{was}")),
    };
    let mut notice = subject.notice(published_id(wanted), transition, wanted);
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
    let id = format!("held:{}", hold_digest(hold));
    let mut notice = subject.notice(id, Transition::Held, wanted);
    notice.summary = subject.summary(&hold.description());
    notice.by = Some(line(&hold.by));
    notice.hold = Some(NoticeHold::of(hold));
    let unhold = format!("trueup unhold {} {}", subject.environment, subject.app);
    notice.add_command("end it", unhold);
    notice
}

/// Identifies a hold.
pub(crate) fn hold_digest(hold: &Hold) -> String {
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

fn to_do(subject: Subject<'_>, wanted: &Wanted, task: &ManualTask) -> Notice {
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
    let done = format!("trueup note {} {} --done", subject.environment, subject.app);
    notice.add_command("tick it off", done);
    notice
}

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
        notice.hosts = self.entry.count.map(|count| HostProgress {
            done: None,
            total: count.hosts as usize,
        });
        notice
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
        } else if let Some(command) = halt_command(halt, &id.sha, (environment, app)) {
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

/// A host that failed.
struct FailedHost<'a> {
    node: &'a str,
    stage: Option<&'a str>,
    reason: &'a str,
    log_tail: &'a str,
}

impl FailedHost<'_> {
    fn describe(&self, subject: Subject<'_>, sha: &str, hosts: usize, notice: &mut Notice) {
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

/// Identifies a cause: the same one has other numbers on each host.
fn cause(stage: Option<&str>, reason: &str) -> String {
    short_digest(&format!("{stage:?} {}", without_numbers(reason)))
}

fn short_digest(text: &str) -> String {
    let mut digest = digest(text.as_bytes());
    digest.truncate(ID_DIGITS);
    digest
}
