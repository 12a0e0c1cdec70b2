//! Which refs of a repository are those of the server that hosts fetch from, and what they are called there.

use crate::ports::git::{GitError, GitRef, GitRepository};

/// How the refs of a repository are named on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ServerNames {
    /// As here: it is the server's repository, or a whole copy of it.
    Same,
    /// It is a clone. Its own branches are of nobody else.
    Clone {
        /// The remote whose branches count; `None`: several have the same right.
        remote: Option<String>,
        /// What the clone fetches from it.
        refspecs: Vec<Refspec>,
    },
}

/// Which refs of a server are kept under which names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refspec {
    source: String,
    destination: String,
}

impl ServerNames {
    pub(super) fn read(git: &GitRepository<'_>, refs: &[GitRef]) -> Result<ServerNames, GitError> {
        const ORIGIN: &str = "origin";
        if git.is_copy() || git.is_bare()? {
            return Ok(ServerNames::Same);
        }
        let remotes = git.remotes()?;
        let is_tracked = |one: &GitRef| one.name.starts_with("refs/remotes/");
        let remote = match remotes.as_slice() {
            [] if !refs.iter().any(is_tracked) => return Ok(ServerNames::Same),
            [only] => Some(only.clone()),
            [] => Some(ORIGIN.to_owned()),
            many => many.iter().find(|name| *name == ORIGIN).cloned(),
        };
        let refspecs = match &remote {
            Some(remote) => git.refspecs(remote)?,
            None => Vec::new(),
        };
        Ok(ServerNames::Clone {
            remote,
            refspecs: refspecs
                .iter()
                .filter_map(|text| Refspec::parse(text))
                .collect(),
        })
    }

    /// The name of a ref on the server; `None`: only this clone has it, as far as it knows.
    pub(super) fn name(&self, name: &str) -> Option<String> {
        let ServerNames::Clone { remote, refspecs } = self else {
            return Some(name.to_owned());
        };
        if name.starts_with("refs/tags/") {
            return Some(name.to_owned());
        }
        // CI systems keep the heads of pull requests among the branches of `origin`.
        let mut sources = refspecs.iter().filter_map(|spec| spec.source_of(name));
        if let Some(first) = sources.next() {
            let other = sources.find(|source| !source.starts_with("refs/heads/"));
            return Some(other.unwrap_or(first));
        }
        let tracked = format!("refs/remotes/{}/", remote.as_deref()?);
        let branch = name.strip_prefix(&tracked)?;
        Some(format!("refs/heads/{branch}"))
    }

    pub(super) fn is_clone(&self) -> bool {
        *self != ServerNames::Same
    }
}

impl Refspec {
    /// Parses git's own form: `+refs/heads/*:refs/remotes/origin/*`.
    fn parse(text: &str) -> Option<Refspec> {
        let (source, destination) = text.trim_start_matches('+').split_once(':')?;
        Some(Refspec {
            source: source.to_owned(),
            destination: destination.to_owned(),
        })
    }

    /// What the server calls a ref of this clone.
    fn source_of(&self, name: &str) -> Option<String> {
        let Some((start, end)) = self.destination.split_once('*') else {
            return (self.destination == name).then(|| self.source.clone());
        };
        let middle = name.strip_prefix(start)?.strip_suffix(end)?;
        Some(self.source.replacen('*', middle, 1))
    }
}
