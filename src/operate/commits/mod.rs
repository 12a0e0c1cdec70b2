//! The commits of an app, as its repository has them: what a branch, tag or short sha means, whether a commit may be
//! deployed, and what lies between two commits.
//!
//! For every command that decides by commits. It asks the repository that `--repo` or the manifest names, by the `git`
//! program of whoever runs trueup ([`crate::ports::git`]).

mod range;
mod repositories;
mod resolve;
mod server_names;
mod source;
#[cfg(test)]
mod tests;

use std::rc::Rc;

use self::server_names::ServerNames;
use crate::desired::AllowedRefs;
use crate::operate::CommandError;
use crate::ports::git::{GitError, GitRef, GitRepository};
use crate::problem::Problem;

pub(crate) use self::range::{ChangeStatus, CommitRange, Direction};
pub(crate) use self::repositories::Repositories;
pub(crate) use self::resolve::{Resolved, Revision};
pub(crate) use self::source::Source;

/// The commits of one app.
pub(crate) struct AppCommits<'g> {
    app: String,
    repository: Rc<OpenRepository<'g>>,
    /// The refs whose commits may be deployed.
    allowed: AllowedRefs,
}

/// A repository and its refs, read once.
struct OpenRepository<'g> {
    git: GitRepository<'g>,
    refs: Vec<GitRef>,
    names: ServerNames,
    /// The address for people.
    shown: String,
    /// It lacks the history before some commits.
    is_shallow: bool,
}

impl AppCommits<'_> {
    /// The address of the repository, without its password.
    pub(crate) fn address(&self) -> &str {
        &self.repository.shown
    }

    /// Why a question about a commit may have no answer in a clone of a part of the history, and what helps.
    fn shallow_hint(&self) -> Option<String> {
        self.repository.is_shallow.then(|| {
            format!(
                "{} has only a part of the history: `git fetch --unshallow` there, or let CI fetch all of it (`fetch-depth: 0` on GitHub, `GIT_DEPTH: 0` on GitLab)",
                self.address()
            )
        })
    }
}

/// `refs/heads/main` as people write it: `main`.
fn short_name(name: &str) -> &str {
    ["refs/heads/", "refs/tags/", "refs/remotes/"]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .unwrap_or(name)
}

impl From<GitError> for CommandError {
    fn from(error: GitError) -> CommandError {
        let hint = error.hint();
        CommandError::Failed(Problem::new(error.to_string()).optional_hint(hint))
    }
}
