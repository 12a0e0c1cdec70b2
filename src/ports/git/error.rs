//! Why git did not do what was asked.

use std::path::PathBuf;
use std::time::Duration;

use crate::ports::exec::{ExecError, ExitReason, block_quote, first_line};
use crate::ports::root::RootError;

/// Why git did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    #[error("there is no program `git` on this machine")]
    NoProgram,
    #[error(transparent)]
    Exec(ExecError),
    #[error("`{}` {ended}{}", first_line(line), quote(stderr))]
    Failed {
        line: String,
        ended: ExitReason,
        /// What it printed about it, at most 128 KiB.
        stderr: String,
    },
    /// A fetch failed.
    #[error("cannot fetch {url}: git {ended}{}", quote(stderr))]
    Fetch {
        /// Without its password.
        url: String,
        ended: ExitReason,
        stderr: String,
    },
    /// A fetch was ended for the space that it took.
    #[error("cannot fetch {url}: {why}")]
    NoSpace { url: String, why: String },
    #[error("`{}` printed more than {} MiB", first_line(line), limit >> 20)]
    TooMuchOutput { line: String, limit: usize },
    #[error("{} is no git repository that this user may read{}", folder.display(), quote(why))]
    NoRepository { folder: PathBuf, why: String },
    /// The cache cannot be used.
    #[error("cannot keep a copy of the repository: {0}")]
    Cache(#[from] RootError),
    #[error("another process has been fetching into {} for {} s", folder.display(), waited.as_secs())]
    Busy { folder: PathBuf, waited: Duration },
    /// Neither variable names the folder.
    #[error(
        "there is no folder to keep a copy of the repository in: neither XDG_CACHE_HOME nor HOME is set to an absolute path"
    )]
    NoCacheFolder,
    #[error("git printed what is no answer to `{line}`")]
    Unexpected { line: String },
}

impl From<ExecError> for GitError {
    fn from(error: ExecError) -> GitError {
        match error.is_program_missing() {
            true => GitError::NoProgram,
            false => GitError::Exec(error),
        }
    }
}

impl GitError {
    /// Whether the copy in the cache may be damaged, so that a new one may do.
    pub(super) fn is_damage(&self) -> bool {
        const SIGNS: &[&str] = &[
            "bad object",
            "corrupt",
            "did not send all necessary objects",
            "not a git repository",
            "packfile",
            "unable to read",
        ];
        match self {
            GitError::Fetch { stderr, .. } => SIGNS.iter().any(|sign| stderr.contains(sign)),
            _ => false,
        }
    }

    /// What to do about it, if that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        const NO_QUESTION: &str =
            "git runs without a terminal here: give it the password by a credential helper";
        let hint = match self {
            GitError::NoProgram => "install it (package `git`), or give full shas of 40 digits",
            GitError::Cache(error) => {
                return Some(format!(
                    "{}; XDG_CACHE_HOME names another folder",
                    error.hint().unwrap_or_else(|| "look at that folder".into())
                ));
            }
            GitError::NoCacheFolder => "set one of them",
            GitError::Busy { .. } => "try again later, or end that process",
            GitError::NoRepository { .. } => {
                "`--repo APP=PATH` takes a clone that belongs to the user who runs trueup"
            }
            GitError::Fetch {
                ended: ExitReason::TimedOut(_),
                ..
            } => {
                "try again: the next fetch goes on with what this one has got, unless it was the first"
            }
            GitError::Fetch { stderr, .. } => {
                let has = |text: &str| stderr.contains(text);
                if has("Host key verification failed") {
                    "connect once with ssh and check the key, or add it to ~/.ssh/known_hosts"
                } else if has("Permission denied") {
                    "git uses this user's ssh configuration and agent: `ssh-add -l` lists the keys"
                } else if has("could not read Username")
                    || has("could not read Password")
                    || has("terminal prompts disabled")
                    || has("Authentication failed")
                {
                    NO_QUESTION
                } else if has("not allowed") && has("transport") {
                    "trueup lets git use ssh, https and http alone"
                } else {
                    "`git ls-remote URL` as this user shows the same; `--repo APP=PATH` takes a clone on this machine instead"
                }
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

fn quote(stderr: &str) -> String {
    const MAX_LINES: usize = 8;
    let lines: Vec<&str> = stderr.trim_end().lines().collect();
    match lines.as_slice() {
        [] => String::new(),
        lines => {
            let last = &lines[lines.len().saturating_sub(MAX_LINES)..];
            format!("\n{}", block_quote(&last.join("\n")))
        }
    }
}
