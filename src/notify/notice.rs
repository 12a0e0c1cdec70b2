//! A notice: what has happened to an app in an environment, for people and for other programs.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::desired::{Hold, Sha, Transition};
use crate::ports::secrets;
use crate::printable;

/// Version of the document that webhooks and commands get.
pub(crate) const VERSION: u32 = 1;

/// Older notices are news no more.
pub(crate) const MAX_AGE: SignedDuration = SignedDuration::from_hours(1);

/// Commits that a notice lists.
const MAX_COMMITS: usize = 10;

/// Notes that a notice lists.
const MAX_NOTES: usize = 10;

/// Longest line, in characters.
const MAX_LINE: usize = 200;

/// Longest log tail: lines, and bytes.
const MAX_TAIL_LINES: usize = 12;
const MAX_TAIL_BYTES: usize = 1500;

/// What has happened. All texts are printable, bounded, and without known secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Notice {
    pub version: u32,
    /// The same on every host that notices the same.
    pub id: String,
    pub transition: Transition,
    /// An operator tries the channel.
    #[serde(default)]
    pub test: bool,
    pub environment: String,
    pub app: String,
    /// When a host noticed it.
    pub at: Timestamp,
    /// The host that sends it.
    pub node: String,
    /// All of it in one line.
    pub summary: String,
    /// The sha of before.
    pub from: Option<Sha>,
    pub to: Option<Sha>,
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    pub generation: Option<u64>,
    /// Who published it, or set the hold.
    pub by: Option<String>,
    pub reason: Option<String>,
    /// The subjects of the newest commits, and how many there are besides.
    pub commits: Vec<String>,
    pub more_commits: usize,
    pub hosts: Option<HostProgress>,
    pub canaries: Vec<String>,
    pub failure: Option<NoticeFailure>,
    pub hold: Option<NoticeHold>,
    /// What somebody has to do by hand.
    pub notes: Vec<String>,
    /// What an operator may do now.
    pub commands: Vec<NoticeCommand>,
}

/// How many hosts have the sha.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostProgress {
    /// `null`: not known.
    pub done: Option<usize>,
    pub total: usize,
}

/// The first failure of a cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NoticeFailure {
    pub node: String,
    pub stage: Option<String>,
    pub reason: String,
    pub log_tail: String,
    /// Hosts that failed for this cause, with this one.
    pub hosts: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NoticeHold {
    pub by: String,
    pub reason: String,
    pub until: Option<Timestamp>,
    pub sha: Option<Sha>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NoticeCommand {
    /// For example `undo`.
    pub purpose: String,
    pub run: String,
}

impl Notice {
    /// A notice without details.
    pub(crate) fn new(
        id: String,
        transition: Transition,
        (environment, app): (&str, &str),
        at: Timestamp,
    ) -> Notice {
        Notice {
            version: VERSION,
            id,
            transition,
            test: false,
            environment: environment.to_owned(),
            app: app.to_owned(),
            at,
            node: String::new(),
            summary: String::new(),
            from: None,
            to: None,
            reference: None,
            generation: None,
            by: None,
            reason: None,
            commits: Vec::new(),
            more_commits: 0,
            hosts: None,
            canaries: Vec::new(),
            failure: None,
            hold: None,
            notes: Vec::new(),
            commands: Vec::new(),
        }
    }

    pub(crate) fn with_commits(&mut self, commits: &[String]) {
        self.commits = commits.iter().take(MAX_COMMITS).map(|c| line(c)).collect();
        self.more_commits = commits.len().saturating_sub(MAX_COMMITS);
    }

    pub(crate) fn with_notes<'t>(&mut self, notes: impl Iterator<Item = &'t str>) {
        self.notes = notes.take(MAX_NOTES).map(line).collect();
    }

    pub(crate) fn add_command(&mut self, purpose: &str, run: String) {
        let purpose = purpose.to_owned();
        self.commands.push(NoticeCommand { purpose, run });
    }

    /// Which version of the notice its receivers know: a doubled one has the same.
    pub(crate) fn message_id(&self) -> String {
        format!("{}/{}/{}", self.environment, self.app, self.id)
    }
}

impl NoticeHold {
    pub(crate) fn of(hold: &Hold) -> NoticeHold {
        NoticeHold {
            by: line(&hold.by),
            reason: line(&hold.reason),
            until: hold.until,
            sha: hold.sha.clone(),
        }
    }
}

/// A text from elsewhere as one bounded line without known secrets.
pub(crate) fn line(text: &str) -> String {
    let text = secrets::redact(printable::line(text.trim()));
    match text.char_indices().nth(MAX_LINE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The end of an output, as far as it fits on a screen.
pub(crate) fn log_tail(text: &str) -> String {
    let text = secrets::redact(printable::text(text.trim_end()));
    let start = text.len().saturating_sub(MAX_TAIL_BYTES);
    let text = &text[text.ceil_char_boundary(start)..];
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(MAX_TAIL_LINES)..].join("\n")
}
