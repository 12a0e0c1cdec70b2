//! The `git` program of whoever runs trueup, with that user's own credentials: ssh configuration and agent, credential
//! helpers, proxies, `insteadOf`. For commands on the machines of operators and CI; hosts fetch with libgit2 instead
//! (`release::source`), because root trusts no configuration of another user.
//!
//! Others may write the address of a repository (it stands in the manifest), and others write what the repository holds.
//! So git gets an address only from the caller's own parser, speaks no protocol but ssh, https and http, runs no hook and no
//! monitor, enters no submodule, and asks nothing: its children have no terminal. Every call has a deadline, and its output
//! a limit.

mod cache;
mod environment;
mod error;
mod fetch;
mod query;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::environment::{Protocols, child_environment};
pub(crate) use self::error::GitError;
pub(crate) use self::query::{Commit, GitRef};
use super::exec::{Command, Exec, ExitReason};

/// Time for a command that only reads a repository of this machine.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of output of such a command: the refs of a repository with some 200,000.
const MAX_OUTPUT_BYTES: usize = 32 << 20;

/// The program, and the environment of its user.
#[derive(Debug)]
pub(crate) struct Git {
    environment: BTreeMap<OsString, OsString>,
    /// For a fetch.
    timeout: Duration,
}

/// A repository on this machine: somebody's own, or a copy of a remote one in the cache.
#[derive(Debug)]
pub(crate) struct GitRepository<'g> {
    git: &'g Git,
    folder: PathBuf,
    is_copy: bool,
}

impl Git {
    /// `environment`: that of whoever runs trueup. `timeout` limits a fetch.
    pub(crate) fn new(
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        timeout: Duration,
    ) -> Git {
        Git {
            environment: environment.into_iter().collect(),
            timeout,
        }
    }

    /// Opens a repository of this machine, which stays as it is: a work tree, any folder in it, or a bare repository.
    pub(crate) fn open(&self, folder: &Path) -> Result<GitRepository<'_>, GitError> {
        let repository = GitRepository {
            git: self,
            folder: folder.to_owned(),
            is_copy: false,
        };
        // git itself refuses one that belongs to another user: it would run what its configuration names.
        match repository.read(["rev-parse", "--git-dir"], b"") {
            Ok(_) => Ok(repository),
            Err(GitError::Failed { stderr, .. }) => Err(GitError::NoRepository {
                folder: folder.to_owned(),
                why: stderr,
            }),
            Err(error) => Err(error),
        }
    }

    /// A call of git in `folder`, in which it may speak these protocols.
    fn command<I, S>(&self, folder: &Path, protocols: Protocols, arguments: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let start = [OsString::from("git"), "-C".into(), folder.into()];
        let arguments = arguments.into_iter().map(|word| word.as_ref().to_owned());
        let mut command = Command::new(start.into_iter().chain(arguments)).timeout(READ_TIMEOUT);
        command.env = child_environment(&self.environment, protocols);
        command
    }
}

impl GitRepository<'_> {
    /// Whether it is a copy in the cache.
    pub(crate) fn is_copy(&self) -> bool {
        self.is_copy
    }

    /// Runs a command that only reads, and returns its output.
    fn read<I, S>(&self, arguments: I, input: &[u8]) -> Result<Vec<u8>, GitError>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let command = self.git.command(&self.folder, Protocols::None, arguments);
        let timeout = command.timeout;
        let mut child = Exec.spawn_piped(&command, timeout.into())?;
        // A child that ends early has said why on its standard error.
        let _ = child.write_all(input);
        child.close_input();
        let mut output = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        let failed = |ended: ExitReason, stderr: &str| GitError::Failed {
            line: command.command_line(),
            ended,
            stderr: stderr.to_owned(),
        };
        loop {
            match child.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => output.extend_from_slice(&buffer[..n]),
                Err(_) => {
                    let (_, stderr) = child.finish();
                    return Err(failed(ExitReason::TimedOut(timeout), &stderr));
                }
            }
            if output.len() > MAX_OUTPUT_BYTES {
                return Err(GitError::TooMuchOutput {
                    line: command.command_line(),
                    limit: MAX_OUTPUT_BYTES,
                });
            }
        }
        match child.finish() {
            (ExitReason::Exited(0), _) => Ok(output),
            (ended, stderr) => Err(failed(ended, &stderr)),
        }
    }
}
