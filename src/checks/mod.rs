//! Whether what a pass relies on works from here. Each check asks one thing, changes nothing, and
//! ends in a line for people: good, or what is wrong and what to do.

mod conditional_writes;
mod git;
mod host;
mod passes;
mod peer_records;
mod run_all;
mod store;

use serde::Serialize;

use crate::problem::Problem;

pub use conditional_writes::{Probe, check_conditional_writes};
pub use git::{check_git, known_hosts};
pub use run_all::run_all;
pub use store::check_store;

/// Checks of what may be written in the store have this name.
const ABOUT_WRITES: &str = "store writes";

/// What one check found.
#[derive(Debug, Serialize)]
pub struct Check {
    /// What was asked about: `store s3://packages`, `git shop`.
    pub about: String,
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// How a check ended.
#[derive(Debug, Serialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Verdict {
    Good {
        said: String,
    },
    /// It works, and somebody has to know this.
    Note(Problem),
    Bad(Problem),
}

impl Check {
    pub fn good(about: impl Into<String>, said: impl Into<String>) -> Check {
        Check {
            about: about.into(),
            verdict: Verdict::Good { said: said.into() },
        }
    }

    pub fn note(about: impl Into<String>, problem: Problem) -> Check {
        Check {
            about: about.into(),
            verdict: Verdict::Note(problem),
        }
    }

    /// Whoever reads it is told what to do in any case.
    pub fn bad(about: impl Into<String>, problem: Problem) -> Check {
        let problem = match problem.hint {
            Some(_) => problem,
            None => problem.hint("mend it there, and look again"),
        };
        Check {
            about: about.into(),
            verdict: Verdict::Bad(problem),
        }
    }

    /// What was found, in words.
    pub fn message(&self) -> &str {
        match &self.verdict {
            Verdict::Good { said } => said,
            Verdict::Note(problem) | Verdict::Bad(problem) => &problem.message,
        }
    }

    pub fn is_bad(&self) -> bool {
        matches!(self.verdict, Verdict::Bad(_))
    }
}

/// Something worth knowing, with nothing to be done about it.
fn note(about: impl Into<String>, what: impl Into<String>) -> Check {
    Check::note(about, Problem::new(what))
}

/// Something to be mended, with how.
fn bad(about: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Check {
    Check::bad(about, Problem::new(what).hint(remedy))
}
