//! Copies of remote repositories: all commits and trees of the wanted refs, without the contents of files, which say
//! nothing about what a deployment brings.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use nix::sys::statvfs::fstatvfs;

use super::cache::CacheFolder;
use super::environment::{Protocols, add_setting};
use super::{Git, GitError, GitRepository};
use crate::ports::exec::{CompletedCommand, Exec, ExitReason, OutputObserver, StopFlag};
use crate::ports::root::{Attrs, Root};

/// Name of the remote, which no configuration of a user has settings for.
const REMOTE: &str = "trueup-publish";

/// The whole configuration of a copy. It is written before each fetch, so nothing else in it is ever used; the address is in
/// the environment of git, because it may have a password.
const CONFIG: &str = "[core]
\trepositoryformatversion = 1
\tbare = true
[extensions]
\tpartialClone = trueup-publish
[remote \"trueup-publish\"]
\tpromisor = true
\tpartialCloneFilter = blob:none
";

/// Bytes that must stay free on the disk of the cache.
const MIN_FREE_BYTES: u64 = 256 << 20;

/// Bytes that one fetch may take. The commits and trees of Linux, a large repository, are 1.5 GB.
const MAX_FETCH_BYTES: u64 = 8 << 30;

impl Git {
    /// Fetches the refs of a remote repository into its copy in the cache, and returns the copy. Waits for another process
    /// that does so; what another one fetches later adds to what this one reads. `shown`: the address for messages, without its password.
    pub(crate) fn fetch(
        &self,
        cache: &CacheFolder,
        (url, shown): (&str, &str),
        refspecs: &[String],
    ) -> Result<GitRepository<'_>, GitError> {
        let _lock = cache.lock(url, self.timeout)?;
        let folder = cache.copy_of(url);
        let root = cache.root();
        match self.update_copy(root, &folder, (url, shown), refspecs) {
            Err(error) if error.is_damage() && root.meta(&folder)?.is_some() => {
                root.remove_tree(&folder)?;
                self.update_copy(root, &folder, (url, shown), refspecs)?;
            }
            updated => updated?,
        }
        Ok(GitRepository {
            git: self,
            folder,
            is_copy: true,
        })
    }

    /// Fetches into a copy, which it makes first if there is none. A new one of which the fetch failed is removed again: it
    /// is of no use to the next fetch.
    fn update_copy(
        &self,
        root: &Root,
        folder: &Path,
        remote: (&str, &str),
        refspecs: &[String],
    ) -> Result<(), GitError> {
        let is_new = self.prepare_copy(root, folder)?;
        let fetched = self.fetch_into(root, folder, remote, refspecs);
        if fetched.is_err() && is_new {
            root.remove_tree(folder)?;
        }
        fetched
    }

    /// Makes an empty copy if there is none, and writes its configuration. Returns whether it is new.
    fn prepare_copy(&self, root: &Root, folder: &Path) -> Result<bool, GitError> {
        if root.meta(folder)?.is_none() {
            root.create_private_folder(folder)?;
        }
        // A process that was killed may have left an empty one.
        let is_new = root.meta(&folder.join("HEAD"))?.is_none();
        if is_new {
            let init = ["init", "--quiet", "--bare", "--template="];
            let command = self.command(folder, Protocols::None, init);
            let line = command.command_line();
            let made = Exec.run(command)?;
            if !made.success() {
                let _ = root.remove_tree(folder);
                return Err(GitError::Failed {
                    line,
                    ended: made.exit_reason,
                    stderr: made.output.tail(8),
                });
            }
        }
        let attrs = Attrs {
            mode: Some(0o600),
            ..Attrs::default()
        };
        root.write_atomic(&folder.join("config"), CONFIG.as_bytes(), &attrs)?;
        Ok(is_new)
    }

    fn fetch_into(
        &self,
        root: &Root,
        folder: &Path,
        (url, shown): (&str, &str),
        refspecs: &[String],
    ) -> Result<(), GitError> {
        let options = [
            "fetch",
            "--quiet",
            "--prune",
            "--no-tags",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
            "--filter=blob:none",
            REMOTE,
        ];
        let words = options
            .into_iter()
            .chain(refspecs.iter().map(String::as_str));
        let mut command = self.command(folder, Protocols::Remote, words);
        add_setting(&mut command.env, &format!("remote.{REMOTE}.url"), url);
        command.timeout = self.timeout;
        let stop = StopFlag::default();
        let least = MIN_FREE_BYTES >> 20;
        if let Some(disk) = root.open_folder(folder)? {
            let guard = SpaceGuard::new(disk.into_fd(), stop.clone());
            if guard.free_before < MIN_FREE_BYTES {
                return Err(GitError::NoSpace {
                    url: shown.to_owned(),
                    why: format!("less than {least} MiB are free for {}", folder.display()),
                });
            }
            command.observer = Some(Box::new(guard));
        }
        command.stop = Some(stop.clone());
        let CompletedCommand {
            exit_reason,
            output,
        } = Exec.run(command)?;
        if stop.is_set() {
            return Err(GitError::NoSpace {
                url: shown.to_owned(),
                why: format!(
                    "it takes more than {} GiB, or leaves less than {least} MiB free for {}",
                    MAX_FETCH_BYTES >> 30,
                    folder.display()
                ),
            });
        }
        match exit_reason {
            ExitReason::Exited(0) => Ok(()),
            ended => Err(GitError::Fetch {
                url: shown.to_owned(),
                ended,
                stderr: output.tail(20).replace(url, shown),
            }),
        }
    }
}

/// Ends a fetch that would fill the disk: what a server sends has no limit of its own.
#[derive(Debug)]
struct SpaceGuard {
    folder: OwnedFd,
    free_before: u64,
    /// When the disk was last looked at, since the start.
    checked: Duration,
    stop: StopFlag,
}

impl SpaceGuard {
    fn new(folder: OwnedFd, stop: StopFlag) -> SpaceGuard {
        SpaceGuard {
            free_before: free_bytes(&folder).unwrap_or(u64::MAX),
            folder,
            checked: Duration::ZERO,
            stop,
        }
    }
}

fn free_bytes(folder: &OwnedFd) -> Option<u64> {
    let disk = fstatvfs(folder).ok()?;
    Some(disk.blocks_available().saturating_mul(disk.fragment_size()))
}

impl OutputObserver for SpaceGuard {
    fn on_output(&mut self, _: &[u8]) {}

    fn on_tick(&mut self, elapsed: Duration) {
        const INTERVAL: Duration = Duration::from_millis(500);
        if elapsed < self.checked + INTERVAL {
            return;
        }
        self.checked = elapsed;
        let Some(free) = free_bytes(&self.folder) else {
            return;
        };
        let taken = self.free_before.saturating_sub(free);
        if free < MIN_FREE_BYTES || taken > MAX_FETCH_BYTES {
            self.stop.set();
        }
    }
}
