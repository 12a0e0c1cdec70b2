//! Which other users can change a path or the tree below it.

use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fstat};

use super::{FileKind, Folder, Meta, Result, Root, RootError};

/// A larger tree is not examined: it counts as shared.
const MAX_ENTRIES: usize = 200_000;

/// Users who can change a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// Only root and the user who runs trueup can change it.
    Ours,
    /// This user and group can change it, or a folder on its path.
    User { uid: u32, gid: u32 },
    /// Unknown other users can change it.
    Shared,
}

impl Root {
    /// The ownership of a tree and of every folder on its path. Opens only folders. `None`: it does not
    /// exist, and no other user could create it.
    pub(crate) fn ownership(&self, path: &Path) -> Result<Option<Ownership>> {
        let path = match self.canonicalize(path) {
            Ok(Some(path)) => path,
            Ok(None) => path.to_owned(),
            Err(RootError::UntrustedLink { owner: 0, .. }) => return Ok(Some(Ownership::Shared)),
            Err(RootError::UntrustedLink { owner, .. }) => {
                return Ok(Some(Ownership::User {
                    uid: owner,
                    gid: owner,
                }));
            }
            Err(error) => return Err(error),
        };
        let of_path = self.path_ownership(&path)?;
        if of_path != Some(Ownership::Ours) {
            return Ok(of_path);
        }
        let Some(top) = self.open_folder(&path)? else {
            return Ok(None);
        };
        // git does not read the checkout beside it.
        let git = top.open_subfolder(Path::new(".git"))?;
        self.tree_ownership(&git.unwrap_or(top)).map(Some)
    }

    fn path_ownership(&self, path: &Path) -> Result<Option<Ownership>> {
        let io = self.io_error("look at", path);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut current: OwnedFd = self.dir.try_clone().map_err(|_| io(Errno::EMFILE))?;
        let mut parts = path.components().peekable();
        while let Some(part) = parts.next() {
            let Component::Normal(name) = part else {
                continue;
            };
            current = match openat(&current, name, flags, Mode::empty()) {
                Ok(folder) => folder,
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
                Err(source) => return Err(io(source)),
            };
            let stat = fstat(&current).map_err(&io)?;
            // In a sticky folder like /tmp, users cannot move each other's entries.
            let sticky = stat.st_mode & 0o1000 != 0 && parts.peek().is_some();
            match self.stat_ownership(&stat) {
                Ownership::Shared if sticky => {}
                Ownership::Ours => {}
                other => return Ok(Some(other)),
            }
        }
        Ok(Some(Ownership::Ours))
    }

    fn stat_ownership(&self, stat: &FileStat) -> Ownership {
        let (uid, gid) = (stat.st_uid, stat.st_gid);
        let others = stat.st_mode & 0o002 != 0;
        let group = stat.st_mode & 0o020 != 0 && gid != 0;
        match uid == 0 || uid == self.euid.as_raw() {
            false => Ownership::User { uid, gid },
            true if others || group => Ownership::Shared,
            true => Ownership::Ours,
        }
    }

    fn tree_ownership(&self, top: &Folder) -> Result<Ownership> {
        let mut todo = vec![PathBuf::new()];
        let mut entries = 0;
        while let Some(path_below) = todo.pop() {
            let folder = match top.open_subfolder(&path_below) {
                Ok(Some(folder)) => folder,
                Ok(None) | Err(RootError::Mounted { .. }) => return Ok(Ownership::Shared),
                Err(error) => return Err(error),
            };
            for (name, _) in folder.entries()? {
                entries += 1;
                let Some(stat) = folder.stat(&name)? else {
                    continue;
                };
                let ownership = self.stat_ownership(&stat);
                let kind = Meta::from(stat).kind;
                let is_usual = matches!(kind, FileKind::File | FileKind::Directory);
                if ownership != Ownership::Ours {
                    return Ok(ownership);
                }
                if entries > MAX_ENTRIES || !is_usual {
                    return Ok(Ownership::Shared);
                }
                if kind == FileKind::Directory {
                    todo.push(path_below.join(name));
                }
            }
        }
        Ok(Ownership::Ours)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    #[test]
    fn tree_is_ours_only_if_nobody_else_can_change_it() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir_all(at("git/objects/info")).unwrap();
        std::fs::write(at("git/config"), "").unwrap();
        let root = Root::real().unwrap();
        let ownership = || root.ownership(&at("git")).unwrap();
        assert_eq!(ownership(), Some(Ownership::Ours));
        assert_eq!(root.ownership(&at("none")).unwrap(), None);
        let mode = |path: &str, mode| {
            std::fs::set_permissions(at(path), PermissionsExt::from_mode(mode)).unwrap();
        };
        mode("git/objects", 0o757);
        assert_eq!(ownership(), Some(Ownership::Shared));
        mode("git/objects", 0o755);
        symlink("/etc", at("git/objects/pack")).unwrap();
        assert_eq!(ownership(), Some(Ownership::Shared));
        std::fs::remove_file(at("git/objects/pack")).unwrap();
        if chown(at("git/objects/info"), Some(7001), Some(7002)).is_err() {
            crate::ports::testing::skip_test("files of others", "needs root");
            return;
        }
        let of_other_user = Some(Ownership::User {
            uid: 7001,
            gid: 7002,
        });
        assert_eq!(ownership(), of_other_user);
        chown(at("git/objects/info"), Some(0), Some(0)).unwrap();
        chown(dir.path(), Some(7001), Some(7002)).unwrap();
        assert_eq!(ownership(), of_other_user);
        assert_eq!(root.ownership(&at("none")).unwrap(), of_other_user);
        chown(dir.path(), Some(0), Some(0)).unwrap();
    }
}
