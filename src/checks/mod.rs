//! Checks behind `trueup doctor` and `trueup init`: whether everything that a pass relies on works from this
//! host. Each check tests one thing, changes nothing, and prints one line: good, or what is wrong and how to
//! fix it.

mod claims;
mod conditional_writes;
mod git;
mod host;
mod notify;
mod passes;
mod peer_records;
mod run_all;
mod sshd;
mod store;

use serde::Serialize;

use crate::ports::store::StoreError;
use crate::problem::Problem;

pub(crate) use git::{check_git, known_hosts};
pub(crate) use run_all::run_all;
pub(crate) use store::check_store;

/// Label of the checks of write permissions in the store.
const ABOUT_WRITES: &str = "store writes";

/// Label of the checks of rollouts.
const ABOUT_ROLLOUTS: &str = "rollouts";

/// Result of one check.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    /// Label of what was checked: `store s3://packages`, `git shop`.
    pub about: String,
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// Verdict of a check.
#[derive(Debug, Serialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub(crate) enum Verdict {
    Good {
        #[serde(rename = "said")]
        message: String,
    },
    /// It works, with a caveat that an operator should know.
    Note(Problem),
    Bad(Problem),
}

impl Check {
    pub(crate) fn good(about: impl Into<String>, message: impl Into<String>) -> Check {
        Check {
            about: about.into(),
            verdict: Verdict::Good {
                message: message.into(),
            },
        }
    }

    pub(crate) fn note(about: impl Into<String>, problem: Problem) -> Check {
        Check {
            about: about.into(),
            verdict: Verdict::Note(problem),
        }
    }

    /// Every bad check has a hint; a default one if `problem` has none.
    pub(crate) fn bad(about: impl Into<String>, problem: Problem) -> Check {
        let problem = match problem.hint {
            Some(_) => problem,
            None => problem.hint("fix it there, then run the check again"),
        };
        Check {
            about: about.into(),
            verdict: Verdict::Bad(problem),
        }
    }

    /// The message of the verdict.
    #[cfg(test)]
    pub(crate) fn message(&self) -> &str {
        match &self.verdict {
            Verdict::Good { message } => message,
            Verdict::Note(problem) | Verdict::Bad(problem) => &problem.message,
        }
    }

    pub(crate) fn is_bad(&self) -> bool {
        matches!(self.verdict, Verdict::Bad(_))
    }
}

/// A note that requires no action.
fn note(about: impl Into<String>, message: impl Into<String>) -> Check {
    Check::note(about, Problem::new(message))
}

/// A store that failed, with what its backend knows to do.
fn bad_store(about: impl Into<String>, error: &StoreError) -> Check {
    Check::bad(
        about,
        Problem::new(error.to_string()).optional_hint(error.hint()),
    )
}

/// What an ordinary user met where a pass, which runs as root, may not.
fn note_for_root(about: impl Into<String>, message: impl Into<String>) -> Check {
    let problem = Problem::new(message).hint("`sudo trueup doctor` checks it as a pass would");
    Check::note(about, problem)
}

/// A problem to fix, with the remedy.
fn bad(about: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Check {
    Check::bad(about, Problem::new(message).hint(remedy))
}
