//! What lies between two commits of an app.

use serde::Serialize;

use super::AppCommits;
use crate::desired::Sha;
use crate::operate::CommandError;
use crate::ports::git::Commit;
use crate::printable;

/// Commits that are listed.
const MAX_COMMITS: usize = 20;

/// Length of a subject, in characters.
const MAX_SUBJECT_CHARS: usize = 100;

/// Changed files that are listed.
const MAX_FILES: usize = 50;

/// Files that change a database: of Rails and of Django.
const MIGRATIONS: &[&str] = &["**/db/migrate/**", "**/migrations/**"];

/// What lies between two commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct CommitRange {
    pub from: Sha,
    pub to: Sha,
    pub direction: Direction,
    /// How many commits `to` adds; `None`: it is unknown.
    pub added: Option<u64>,
    /// How many commits of `from` are not in `to`.
    pub removed: Option<u64>,
    /// The newest of the added ones, or of the removed ones where none is added.
    pub commits: Vec<CommitView>,
    /// Migrations that differ, at most fifty.
    pub migrations: Vec<ChangedFile>,
    /// How many differ.
    pub migration_count: usize,
    /// Why all of this is unknown or incomplete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_unknown: Option<String>,
}

/// Where one commit is as seen from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Direction {
    Same,
    /// It adds commits only.
    Forward,
    /// It takes commits back only.
    Backward,
    /// Each has commits that the other has not.
    Diverged,
    Unknown,
}

/// A commit for people; the texts are escaped and shortened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct CommitView {
    pub sha: Sha,
    pub author: String,
    pub at: jiff::Timestamp,
    pub subject: String,
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ChangedFile {
    pub path: String,
    #[serde(rename = "how")]
    pub change: ChangeStatus,
}

/// The change from the old commit to the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ChangeStatus {
    New,
    Gone,
    Changed,
}

impl CommitRange {
    /// The range of a commit and itself.
    pub(crate) fn same(from: &Sha, to: &Sha) -> CommitRange {
        CommitRange {
            added: Some(0),
            removed: Some(0),
            ..CommitRange::empty(from, to, Direction::Same)
        }
    }

    fn empty(from: &Sha, to: &Sha, direction: Direction) -> CommitRange {
        CommitRange {
            from: from.clone(),
            to: to.clone(),
            direction,
            added: None,
            removed: None,
            commits: Vec::new(),
            migrations: Vec::new(),
            migration_count: 0,
            why_unknown: None,
        }
    }

    /// The range of two commits of which no repository is known.
    pub(crate) fn unknown(from: &Sha, to: &Sha, why: impl Into<String>) -> CommitRange {
        let why: String = why.into();
        CommitRange {
            why_unknown: Some(printable::line(&why).into_owned()),
            ..CommitRange::empty(from, to, Direction::Unknown)
        }
    }

    /// The added commits in one line each, for the manifest: `4f2c9d0 Fix the checkout`.
    pub(crate) fn subjects(&self) -> Vec<String> {
        match self.direction {
            Direction::Forward | Direction::Diverged => {
                let commits = self.commits.iter();
                commits
                    .map(|commit| format!("{} {}", commit.sha.short(), commit.subject))
                    .collect()
            }
            _ => Vec::new(),
        }
    }
}

impl AppCommits<'_> {
    /// What lies between two commits. A commit that the repository lacks makes it unknown, which is no error: it may have
    /// been of another repository, or of a branch that is gone.
    pub(crate) fn commits_between(
        &self,
        from: &Sha,
        to: &Sha,
    ) -> Result<CommitRange, CommandError> {
        if from == to {
            return Ok(CommitRange::same(from, to));
        }
        let git = &self.repository.git;
        for sha in [from, to] {
            if !git.has_commit(sha.as_str())? {
                let address = self.address();
                let hint = self.shallow_hint();
                let hint = hint.map_or(String::new(), |hint| format!("; {hint}"));
                let why = format!("{address} does not have {}{hint}", sha.short());
                return Ok(CommitRange::unknown(from, to, why));
            }
        }
        let (first, second) = (from.as_str(), to.as_str());
        let counts = git.divergence(first, second)?;
        let direction = match (counts.only_first, counts.only_second) {
            (0, 0) => Direction::Same,
            (0, _) => Direction::Forward,
            (_, 0) => Direction::Backward,
            _ => Direction::Diverged,
        };
        // Where the history ends early, commits of both sides may be the same.
        let is_incomplete = self.repository.is_shallow && direction == Direction::Diverged;
        let commits = match direction {
            Direction::Backward => git.log(second, first, MAX_COMMITS)?,
            _ => git.log(first, second, MAX_COMMITS)?,
        };
        let (migrations, migration_count) = self.changed_files(from, to, MIGRATIONS)?;
        Ok(CommitRange {
            direction: if is_incomplete {
                Direction::Unknown
            } else {
                direction
            },
            added: (!is_incomplete).then_some(counts.only_second),
            removed: (!is_incomplete).then_some(counts.only_first),
            commits: commits.iter().filter_map(commit_view).collect(),
            migrations,
            migration_count,
            why_unknown: self.shallow_hint().filter(|_| is_incomplete),
            ..CommitRange::empty(from, to, direction)
        })
    }

    /// The files that differ between two commits and match one of git's patterns, such as `**/db/migrate/**`; the first
    /// fifty, and how many there are.
    pub(crate) fn changed_files(
        &self,
        from: &Sha,
        to: &Sha,
        patterns: &[&str],
    ) -> Result<(Vec<ChangedFile>, usize), CommandError> {
        let git = &self.repository.git;
        let (files, count) = git.changed_files(from.as_str(), to.as_str(), patterns, MAX_FILES)?;
        let files = files.iter().map(|file| ChangedFile {
            path: printable::line(&file.path).into_owned(),
            change: match file.status {
                'A' => ChangeStatus::New,
                'D' => ChangeStatus::Gone,
                _ => ChangeStatus::Changed,
            },
        });
        Ok((files.collect(), count))
    }
}

fn commit_view(commit: &Commit) -> Option<CommitView> {
    const MAX_AUTHOR_CHARS: usize = 40;
    Some(CommitView {
        sha: Sha::parse(&commit.id).ok()?,
        author: shorten(&printable::line(&commit.author), MAX_AUTHOR_CHARS),
        // An author may have written any number.
        at: jiff::Timestamp::from_second(commit.committed_s).unwrap_or_default(),
        subject: shorten(&printable::line(&commit.subject), MAX_SUBJECT_CHARS),
    })
}

fn shorten(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => {
            let kept: String = text.chars().take(most - 1).collect();
            format!("{kept}…")
        }
    }
}
