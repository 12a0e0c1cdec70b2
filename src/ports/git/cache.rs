//! The folder with copies of remote repositories, in the cache of whoever runs trueup.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg, OFlag, open};
use nix::sys::stat::Mode;

use super::{Git, GitError};
use crate::digest::digest;
use crate::ports::root::{Root, RootError};

/// Below the user's cache folder.
const FOLDER: &str = "trueup/repositories";

/// Interval at which a lock is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// A folder that only the user who runs trueup can enter.
#[derive(Debug)]
pub(crate) struct CacheFolder {
    path: PathBuf,
    root: Root,
}

/// The copy of one repository, held until dropped or until trueup ends.
#[derive(Debug)]
pub(super) struct CacheLock {
    #[allow(dead_code, reason = "unlocks when dropped")]
    file: Flock<File>,
}

impl Git {
    /// Opens the cache folder of the user, and makes it first if it is not there.
    pub(crate) fn cache_folder(&self) -> Result<CacheFolder, GitError> {
        let variable = |name: &str| {
            let path = self.environment.get(OsStr::new(name)).map(PathBuf::from);
            path.filter(|path| path.is_absolute())
        };
        let above = variable("XDG_CACHE_HOME")
            .or_else(|| variable("HOME").map(|home| home.join(".cache")))
            .ok_or(GitError::NoCacheFolder)?;
        CacheFolder::open(Root::real()?, &above)
    }
}

impl CacheFolder {
    /// Refuses a folder that others can change, or that they can look into: names of branches and subjects of commits
    /// may be secrets.
    fn open(root: Root, above: &Path) -> Result<CacheFolder, GitError> {
        let path = above.join(FOLDER);
        let path = match root.meta(&path)? {
            Some(_) => root.resolve_private_folder(&path)?,
            // Another process may just have made it.
            None => root
                .create_private_folder(&path)
                .or_else(|_| root.resolve_private_folder(&path))?,
        };
        let mode = root.meta(&path)?.map_or(0, |meta| meta.mode & 0o777);
        if mode != 0o700 {
            return Err(GitError::Cache(RootError::NotPrivate {
                why: format!("its mode is {mode:o}, and 700 is expected"),
                path,
            }));
        }
        Ok(CacheFolder { path, root })
    }

    pub(super) fn root(&self) -> &Root {
        &self.root
    }

    /// Where the copy of a repository is. The name says nothing about the address, which may have a password.
    pub(super) fn copy_of(&self, url: &str) -> PathBuf {
        self.path.join(digest(url.as_bytes()))
    }

    /// Waits for the copy of a repository, for `timeout` at most.
    pub(super) fn lock(&self, url: &str, timeout: Duration) -> Result<CacheLock, GitError> {
        let folder = self.copy_of(url);
        let path = folder.with_extension("lock");
        let failed = |errno| {
            GitError::Cache(RootError::Io {
                verb: "open",
                path: path.clone(),
                errno,
            })
        };
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let started = Instant::now();
        let mut file =
            File::from(open(&path, flags, Mode::from_bits_truncate(0o600)).map_err(failed)?);
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => return Ok(CacheLock { file }),
                Err((_, errno)) if errno != nix::errno::Errno::EWOULDBLOCK => {
                    return Err(failed(errno));
                }
                Err((unlocked, _)) => file = unlocked,
            }
            let waited = started.elapsed();
            if waited >= timeout {
                return Err(GitError::Busy { folder, waited });
            }
            std::thread::sleep(RETRY_INTERVAL);
        }
    }
}
