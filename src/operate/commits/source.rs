//! Where the commits of an app are looked up.

use std::path::{Path, PathBuf};

use crate::desired::Repo;
use crate::problem::Problem;

/// A repository, as `--repo` or the manifest names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Fetched into the cache.
    Remote(Repo),
    /// A clone on this machine, such as CI's checkout.
    Local(PathBuf),
}

impl Source {
    /// Parses the value of `--repo`, which may be a relative path.
    pub(crate) fn parse(text: &str) -> Result<Source, Problem> {
        match Repo::parse(text) {
            Ok(repo) => Ok(Source::from(repo)),
            // Whatever else has no colon is a path.
            Err(_) if !text.is_empty() && !text.contains(':') && !text.starts_with('-') => {
                let path = std::path::absolute(Path::new(text)).map_err(|error| {
                    Problem::new(format!("`{text}` cannot be looked up: {error}"))
                })?;
                Ok(Source::Local(path))
            }
            Err(invalid) => Err(Problem::new(invalid.message).hint(invalid.hint)),
        }
    }
}

impl From<Repo> for Source {
    fn from(repo: Repo) -> Source {
        match repo.local_path() {
            Some(path) => Source::Local(path),
            None => Source::Remote(repo),
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Remote(repo) => repo.fmt(f),
            Source::Local(path) => path.display().fmt(f),
        }
    }
}
