//! The host's filesystem, accessed through one handle on its root.
//!
//! Every path of the host is resolved below this handle, so the same code works on `/` and on a sandbox
//! folder (`--root DIR`). Lookups never follow a symbolic link that a user other than root (or, in a sandbox,
//! the user who runs trueup) could have planted: see `resolve.rs`.

mod attrs;
mod copy_file;
mod copy_tree;
mod entry_name;
mod error;
mod explain;
mod exposure;
mod file_flag;
mod folder;
mod limits;
mod mounts;
mod owner_rule;
mod ownership;
mod private;
mod read;
mod remove_tree;
mod resolve;
mod safe_chown;
mod subvolume;
mod temporary;
#[cfg(test)]
mod tests;
mod trust;
mod usage;
mod user_tree;
mod write;
mod xattr;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode as NixMode;
use nix::unistd::{Uid, geteuid};

pub(crate) use attrs::{Attrs, FileKind, Meta};
pub(crate) use copy_file::FileCopier;
pub(crate) use copy_tree::MoveOutcome;
pub(crate) use error::RootError;
pub(crate) use exposure::Exposure;
pub(crate) use folder::{DiskSpace, Folder, FreeSpace, start_writeback};
pub(crate) use ownership::Ownership;
pub(crate) use temporary::is_leftover;
pub(crate) use usage::DiskUsage;
pub(crate) use user_tree::{UserTree, UserTreeEntry, WalkLimits};
pub(in crate::ports) use write::write_in_folder;

use super::watchdog;

pub(crate) type Result<T> = std::result::Result<T, RootError>;

/// The root of the host's filesystem.
#[derive(Debug)]
pub(crate) struct Root {
    dir: OwnedFd,
    path: PathBuf,
    euid: Uid,
    folder_cache: RefCell<Option<HashMap<OsString, Rc<OwnedFd>>>>,
    /// Folders that only root and trueup's user can change: see `trust.rs`.
    trusted_folders: RefCell<TrustedFolders>,
    /// What was created since the last look, if that is recorded.
    new_paths: RefCell<Option<Vec<PathBuf>>>,
}

/// Keyed by path and the one extra user who may change them; `None`: the folder does not exist.
type TrustedFolders = HashMap<(PathBuf, Option<u32>), Option<Rc<OwnedFd>>>;

/// Most folders that are kept open: far below the descriptor limit of a process.
const MAX_OPEN_FOLDERS: usize = 128;

/// Keeps folders open while it lives: see [`Root::cache_folders`].
pub(crate) struct FolderCacheGuard<'a>(&'a Root);

impl Drop for FolderCacheGuard<'_> {
    fn drop(&mut self) {
        self.0.folder_cache.replace(None);
    }
}

/// A resolved path: its parent folder, held open, and its last component.
struct ResolvedPath {
    parent: Rc<OwnedFd>,
    name: OsString,
}

impl Root {
    /// The real root of the host.
    pub(crate) fn real() -> Result<Root> {
        Root::at(Path::new("/"))
    }

    /// A sandbox: `dir` stands for `/`. It must exist.
    pub(crate) fn at(dir: &Path) -> Result<Root> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = open(dir, flags, NixMode::empty()).map_err(|errno| RootError::Io {
            verb: "open",
            path: dir.into(),
            errno,
        })?;
        let path = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.into());
        Ok(Root {
            dir: fd,
            path,
            euid: geteuid(),
            folder_cache: RefCell::new(None),
            trusted_folders: RefCell::default(),
            new_paths: RefCell::default(),
        })
    }

    /// Whether this is the machine's root and not a sandbox.
    pub(crate) fn is_real(&self) -> bool {
        self.path == Path::new("/")
    }

    /// The folder that stands for `/`; `/` itself on a real host.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path on the machine, for a child or a library that opens files itself. Does not access the disk.
    pub(crate) fn machine_path(&self, path: &Path) -> PathBuf {
        let inner = path.strip_prefix("/").unwrap_or(path);
        self.path.join(inner)
    }

    /// Whether owners can be set: not by an unprivileged user in a sandbox.
    pub(crate) fn is_privileged(&self) -> bool {
        self.euid.is_root()
    }

    /// Whether trueup runs as an ordinary user of a real host, who cannot inspect all that a pass can.
    pub(crate) fn is_ordinary_user(&self) -> bool {
        self.is_real() && !self.is_privileged()
    }

    /// The id of the user that trueup runs as.
    pub(crate) fn current_uid(&self) -> u32 {
        self.euid.as_raw()
    }

    /// Validates a path without accessing the disk.
    pub(crate) fn check_path(path: &Path) -> Result<()> {
        let bad = |why| {
            Err(RootError::InvalidPath {
                path: path.into(),
                why,
            })
        };
        if !path.is_absolute() {
            return bad("expected an absolute path");
        }
        if path.components().any(|part| part == Component::ParentDir) {
            return bad("`..` is not allowed: write the resolved path");
        }
        if path.as_os_str().as_encoded_bytes().contains(&0) {
            return bad("it contains a NUL byte");
        }
        Ok(())
    }

    fn io_error<'a>(
        &'a self,
        verb: &'static str,
        path: &'a Path,
    ) -> impl Fn(Errno) -> RootError + 'a {
        move |errno| self.explain_errno(verb, path, errno)
    }

    /// Resolves the parent folder of `path`; `None` if it does not exist.
    fn resolve_path(&self, verb: &'static str, path: &Path) -> Result<Option<ResolvedPath>> {
        watchdog::record_progress();
        Root::check_path(path)?;
        let Some(name) = path.file_name() else {
            // `/` itself is looked up as `.` of the root.
            let parent = self.dir.try_clone().map_err(|_| RootError::Io {
                verb,
                path: path.into(),
                errno: Errno::EMFILE,
            })?;
            return Ok(Some(ResolvedPath {
                parent: Rc::new(parent),
                name: OsStr::new(".").into(),
            }));
        };
        let parent = path.parent().unwrap_or(Path::new("/"));
        let parent = self.cached_folder(verb, parent)?;
        Ok(parent.map(|parent| ResolvedPath {
            parent,
            name: name.into(),
        }))
    }

    /// [`Root::resolve_folder`], through the cache of open folders if it is active.
    fn cached_folder(&self, verb: &'static str, path: &Path) -> Result<Option<Rc<OwnedFd>>> {
        if let Some(folders) = self.folder_cache.borrow().as_ref()
            && let Some(folder) = folders.get(path.as_os_str())
        {
            return Ok(Some(folder.clone()));
        }
        let Some(folder) = self.resolve_folder(verb, path)?.map(Rc::new) else {
            return Ok(None);
        };
        if let Some(folders) = self.folder_cache.borrow_mut().as_mut() {
            if folders.len() >= MAX_OPEN_FOLDERS {
                folders.clear();
            }
            folders.insert(path.into(), folder.clone());
        }
        Ok(Some(folder))
    }

    /// Keeps looked-up folders open until the guard is dropped: for many lookups in a row, during which this
    /// handle changes nothing.
    pub(crate) fn cache_folders(&self) -> FolderCacheGuard<'_> {
        self.folder_cache.replace(Some(HashMap::new()));
        FolderCacheGuard(self)
    }

    /// Like [`Root::resolve_path`], for a caller that needs the parent to exist.
    fn require_path(&self, verb: &'static str, path: &Path) -> Result<ResolvedPath> {
        self.resolve_path(verb, path)?.ok_or_else(|| RootError::Io {
            verb,
            path: path.into(),
            errno: Errno::ENOENT,
        })
    }
}
