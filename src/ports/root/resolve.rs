//! Resolves a path to an open folder without following a planted link.
//!
//! The usual case is one `openat2` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`: it follows no link, so
//! nobody can have redirected it. Only if the path contains a link, the walk below decides component by
//! component: it follows a link only if root (or the user who runs trueup) owns it and every folder above it,
//! and no other user can write there. This is the rule of systemd's `CHASE_SAFE`, made a little stricter.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};

use super::{FileKind, Meta, Result, Root, RootError};

/// The kernel's limit of links in one path.
const MAX_LINKS: u32 = 40;

pub(super) const PATH_FLAGS: OFlag = OFlag::O_PATH
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC);

impl Root {
    /// Opens the folder `path` (absolute, validated) for use as the base of `…at` calls.
    pub(super) fn resolve_folder(
        &self,
        verb: &'static str,
        path: &Path,
    ) -> Result<Option<OwnedFd>> {
        let inner = path.strip_prefix("/").unwrap_or(path);
        let inner = if inner.as_os_str().is_empty() {
            Path::new(".")
        } else {
            inner
        };
        let open_how = OpenHow::new().flags(PATH_FLAGS).resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_MAGICLINKS,
        );
        match openat2(&self.dir, inner, open_how) {
            Ok(folder) => Ok(Some(folder)),
            Err(Errno::ENOENT) => Ok(None),
            // A link, or a kernel or sandbox that does not support openat2.
            Err(Errno::ELOOP | Errno::ENOSYS | Errno::EPERM) => match self.walk_path(verb, path)? {
                None => Ok(None),
                Some((mut folders, None)) => Ok(folders.pop().map(|step| step.fd)),
                Some((_, Some(_))) => Err(self.io_error(verb, path)(Errno::ENOTDIR)),
            },
            Err(source) => Err(self.io_error(verb, path)(source)),
        }
    }

    /// Resolves all links in a path, including its last component, by the same rule as for folders. `None`:
    /// the target does not exist.
    pub(crate) fn canonicalize(&self, path: &Path) -> Result<Option<PathBuf>> {
        Root::check_path(path)?;
        let Some((folders, last)) = self.walk_path("look at", path)? else {
            return Ok(None);
        };
        let folders = folders.into_iter().skip(1).map(|step| step.name);
        Ok(Some(
            Path::new("/").join(folders.chain(last).collect::<PathBuf>()),
        ))
    }

    /// The folders on the path, from the root on, and the last component if that is no folder.
    #[allow(clippy::type_complexity, reason = "used here alone")]
    pub(super) fn walk_path(
        &self,
        verb: &'static str,
        path: &Path,
    ) -> Result<Option<(Vec<PathStep>, Option<OsString>)>> {
        let io = self.io_error(verb, path);
        let mut links = 0;
        let mut todo = path_parts(path);
        let mut stack: Vec<PathStep> = vec![self.root_step().map_err(&io)?];
        while let Some(part) = todo.pop_front() {
            if part == ".." {
                // `..` occurs only in a trusted link's target; `..` of the root is the root, as everywhere.
                if stack.len() > 1 {
                    stack.pop();
                }
                continue;
            }
            let current = stack.last().expect("the root is never popped");
            let stat = match fstatat(&current.fd, part.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::ENOENT) => return Ok(None),
                Err(source) => return Err(io(source)),
            };
            if Meta::from(stat).kind != FileKind::Symlink {
                match current.open_child(&part, self) {
                    Ok(step) => stack.push(step),
                    Err(Errno::ENOTDIR) if todo.is_empty() => return Ok(Some((stack, Some(part)))),
                    Err(source) => return Err(io(source)),
                }
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(io(Errno::ELOOP));
            }
            if !(current.trusted && self.is_trusted_uid(stat.st_uid)) {
                let mut link: PathBuf = stack.iter().skip(1).map(|step| &step.name).collect();
                link = Path::new("/").join(link).join(&part);
                return Err(RootError::UntrustedLink {
                    verb,
                    path: path.into(),
                    link,
                    owner: stat.st_uid,
                    in_exposed_folder: !current.trusted,
                });
            }
            let target = PathBuf::from(readlinkat(&current.fd, part.as_os_str()).map_err(&io)?);
            if target.is_absolute() {
                stack.truncate(1);
            }
            let mut ahead = path_parts(&target);
            ahead.append(&mut todo);
            todo = ahead;
        }
        Ok(Some((stack, None)))
    }

    fn root_step(&self) -> nix::Result<PathStep> {
        let fd = self.dir.try_clone().map_err(|_| Errno::EMFILE)?;
        let trusted = self.is_trusted_folder(&fstat(&fd)?);
        Ok(PathStep {
            fd,
            trusted,
            name: OsString::new(),
        })
    }

    pub(super) fn is_trusted_uid(&self, uid: u32) -> bool {
        uid == 0 || uid == self.euid.as_raw()
    }

    /// Whether only root (or trueup's user) can add entries to this folder. Root's own group counts as root.
    fn is_trusted_folder(&self, stat: &FileStat) -> bool {
        let others = stat.st_mode & 0o002 != 0;
        let group = stat.st_mode & 0o020 != 0 && stat.st_gid != 0;
        self.is_trusted_uid(stat.st_uid) && !others && !group
    }

    /// Whether only root (or trueup's user) decides what a program finds that opens `path` and follows links:
    /// no other user can change a folder or link on the path. For a path that does not exist, checks the
    /// existing folders above it.
    pub(crate) fn is_trusted_path(&self, path: &Path) -> Result<bool> {
        let mut rest = PathBuf::new();
        for current in path.ancestors() {
            match self.canonicalize(current) {
                Ok(Some(real)) => return self.is_in_trusted_folder(&real.join(&rest)),
                Ok(None) => rest = PathBuf::from("any"),
                Err(RootError::UntrustedLink { .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Whether only root (or trueup's user) can add entries to the folder that holds `path`, and to every
    /// folder above it. So only root can have put a file there.
    pub(crate) fn is_in_trusted_folder(&self, path: &Path) -> Result<bool> {
        Root::check_path(path)?;
        let io = self.io_error("look at", path);
        let mut step = self.root_step().map_err(&io)?;
        for part in path_parts(path.parent().unwrap_or(Path::new("/"))) {
            if !step.trusted {
                return Ok(false);
            }
            match step.open_child(&part, self) {
                Ok(next) => step = next,
                Err(_) => return Ok(false),
            }
        }
        Ok(step.trusted)
    }
}

/// One folder on the path, and whether only root or trueup's user can change everything up to it.
pub(super) struct PathStep {
    pub(super) fd: OwnedFd,
    trusted: bool,
    pub(super) name: OsString,
}

impl PathStep {
    fn open_child(&self, name: &OsStr, root: &Root) -> nix::Result<PathStep> {
        let fd = openat(
            self.fd.as_fd(),
            name,
            PATH_FLAGS | OFlag::O_NOFOLLOW,
            Mode::empty(),
        )?;
        let trusted = self.trusted && root.is_trusted_folder(&fstat(&fd)?);
        Ok(PathStep {
            fd,
            trusted,
            name: name.into(),
        })
    }
}

fn path_parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}
