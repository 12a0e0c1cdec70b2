//! Whether what a pass relies on works from here. Each check asks one thing, changes nothing, and
//! ends in a line for people: good, or what is wrong and what to do.

mod git;
mod store;

use serde::Serialize;

use crate::problem::Problem;

pub use git::git;
pub use store::store;

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

    pub fn bad(about: impl Into<String>, problem: Problem) -> Check {
        Check {
            about: about.into(),
            verdict: Verdict::Bad(problem),
        }
    }

    pub fn is_bad(&self) -> bool {
        matches!(self.verdict, Verdict::Bad(_))
    }
}
