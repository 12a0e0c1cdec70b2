//! Private folders in places where other users may write as well.
//!
//! A user who can write in a folder on the path can rename its entries and put others in their place, unless
//! the sticky bit prevents it, as in `/tmp`. So a folder is used only where that is impossible, and only if
//! trueup just created it, or it belonged to trueup's user before and is empty.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fstat, mkdirat};
use nix::unistd::mkdtemp;

use super::entry_name::is_dot_or_dot_dot;
use super::{Result, Root, RootError};

const FOLDER_FLAGS: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// A file system in memory, writable by all users like `/tmp`.
const MEMORY_DIR: &str = "/dev/shm";

/// Write bits for group and others.
const OTHERS_WRITE: u32 = 0o022;

impl Root {
    /// Creates a private folder in the temporary folder: under an unpredictable name, never an existing
    /// folder, and closed to others.
    pub(crate) fn create_temporary_folder(&self, prefix: &str) -> Result<PathBuf> {
        self.create_folder_in(&std::env::temp_dir(), prefix)
    }

    /// The same in memory, where the system has such a place, for what should reach no disk.
    pub(crate) fn create_memory_folder(&self, prefix: &str) -> Result<PathBuf> {
        match self.create_folder_in(MEMORY_DIR.as_ref(), prefix) {
            Err(_) => self.create_temporary_folder(prefix),
            folder => folder,
        }
    }

    fn create_folder_in(&self, temp_dir: &Path, prefix: &str) -> Result<PathBuf> {
        Root::check_path(temp_dir)?;
        let missing = || self.io_error("make a folder in", temp_dir)(Errno::ENOENT);
        let temp_dir = self.canonicalize(temp_dir)?.ok_or_else(missing)?;
        self.open_protected_folder(&temp_dir)?;
        let template = self.machine_path(&temp_dir).join(format!("{prefix}XXXXXX"));
        mkdtemp(&template).map_err(self.io_error("make a folder in", &temp_dir))
    }

    /// Creates a private folder at `path`, with its missing parents. Accepts an existing one if it is owned
    /// by trueup's user, empty and not writable by others. Returns its path with all links resolved.
    pub(crate) fn create_private_folder(&self, path: &Path) -> Result<PathBuf> {
        Root::check_path(path)?;
        let (ancestor, mut folder) = self.deepest_existing_ancestor(path)?;
        let missing = path.strip_prefix(&ancestor.requested).unwrap_or(path);
        let mut real = ancestor.resolved;
        let mut parts = missing.iter().peekable();
        while let Some(part) = parts.next() {
            real.push(part);
            let is_last = parts.peek().is_none();
            let mode = if is_last { 0o700 } else { 0o755 };
            let existed = match mkdirat(&folder, part, Mode::from_bits_truncate(mode)) {
                Ok(()) => false,
                Err(Errno::EEXIST) if is_last => true,
                Err(source) => return Err(self.io_error("make", &real)(source)),
            };
            folder = self.open_own_folder(&folder, part, &real)?;
            if existed && !is_empty(&folder).map_err(self.io_error("list", &real))? {
                return Err(not_private(&real, "it exists and is not empty".into()));
            }
        }
        Ok(real)
    }

    /// Resolves all links in the path of a private folder; fails if other users can change it or a folder
    /// above it.
    pub(crate) fn resolve_private_folder(&self, path: &Path) -> Result<PathBuf> {
        Root::check_path(path)?;
        let missing = |path: &Path| self.io_error("open", path)(Errno::ENOENT);
        let name = path.file_name().ok_or_else(|| missing(path))?;
        let above = path.parent().unwrap_or(Path::new("/"));
        let above = self.canonicalize(above)?.ok_or_else(|| missing(above))?;
        let folder = self.open_protected_folder(&above)?;
        let real = above.join(name);
        self.open_own_folder(&folder, name, &real)?;
        Ok(real)
    }

    /// Opens the deepest existing folder above `path`.
    fn deepest_existing_ancestor(&self, path: &Path) -> Result<(Ancestor, OwnedFd)> {
        for written in path.ancestors().skip(1) {
            if let Some(real) = self.canonicalize(written)? {
                let folder = self.open_protected_folder(&real)?;
                let written = written.to_owned();
                return Ok((
                    Ancestor {
                        requested: written,
                        resolved: real,
                    },
                    folder,
                ));
            }
        }
        Err(self.io_error("make", path)(Errno::ENOENT))
    }

    /// Opens a folder if no other user can replace it or a folder above it, nor remove what trueup creates in
    /// it. `path` contains no links.
    fn open_protected_folder(&self, path: &Path) -> Result<OwnedFd> {
        let io = self.io_error("open", path);
        let mut folder = openat(&self.dir, ".", FOLDER_FLAGS, Mode::empty()).map_err(&io)?;
        let mut current = PathBuf::from("/");
        self.check_protected(&folder, &current)?;
        for part in path.iter().skip(1) {
            current.push(part);
            folder = openat(&folder, part, FOLDER_FLAGS, Mode::empty()).map_err(&io)?;
            self.check_protected(&folder, &current)?;
        }
        Ok(folder)
    }

    fn check_protected(&self, folder: &OwnedFd, path: &Path) -> Result<()> {
        let stat = fstat(folder).map_err(self.io_error("look at", path))?;
        let sticky = stat.st_mode & 0o1000 != 0;
        match foreign_write_bits(&stat) == 0 || sticky {
            true => self.check_trusted_owner(&stat, path),
            false => {
                let why = "users other than its owner can write to it, and so replace what is created there";
                Err(not_private(path, why.into()))
            }
        }
    }

    fn check_trusted_owner(&self, stat: &FileStat, path: &Path) -> Result<()> {
        match stat.st_uid == 0 || stat.st_uid == self.current_uid() {
            true => Ok(()),
            false => Err(not_private(
                path,
                format!("it belongs to uid {}", stat.st_uid),
            )),
        }
    }

    /// Opens the folder `name` in `folder`, which only trueup's user may own and write to.
    fn open_own_folder(&self, folder: &OwnedFd, name: &OsStr, path: &Path) -> Result<OwnedFd> {
        let opened = match openat(folder, name, FOLDER_FLAGS, Mode::empty()) {
            Err(Errno::ELOOP | Errno::ENOTDIR) => {
                return Err(not_private(path, "it is not a folder".into()));
            }
            opened => opened.map_err(self.io_error("open", path))?,
        };
        let stat = fstat(&opened).map_err(self.io_error("look at", path))?;
        if stat.st_uid != self.current_uid() {
            let why = format!(
                "it belongs to uid {}, not to the user who runs trueup",
                stat.st_uid
            );
            return Err(not_private(path, why));
        }
        match foreign_write_bits(&stat) {
            0 => Ok(opened),
            _ => Err(not_private(
                path,
                "users other than its owner can write to it".into(),
            )),
        }
    }
}

/// A folder as requested, and with its links resolved.
struct Ancestor {
    requested: PathBuf,
    resolved: PathBuf,
}

fn not_private(path: &Path, why: String) -> RootError {
    RootError::NotPrivate {
        path: path.into(),
        why,
    }
}

/// The bits that let others than the owner write. Root's own group counts as root.
fn foreign_write_bits(stat: &FileStat) -> u32 {
    let ignored = if stat.st_gid == 0 { 0o020 } else { 0 };
    stat.st_mode & OTHERS_WRITE & !ignored
}

fn is_empty(folder: &OwnedFd) -> nix::Result<bool> {
    let mut dir = Dir::openat(folder.as_fd(), ".", FOLDER_FLAGS, Mode::empty())?;
    for entry in dir.iter() {
        if !is_dot_or_dot_dot(entry?.file_name()) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

    use super::*;

    /// A sandbox with a host's `/tmp`, and the uid of a user other than trueup's if that is root.
    fn sandbox() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tmp")).unwrap();
        set_mode(&dir.path().join("tmp"), 0o1777);
        let root = Root::at(dir.path()).unwrap();
        (dir, root)
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    fn refusal(root: &Root, path: &str) -> String {
        let error = root.create_private_folder(Path::new(path)).unwrap_err();
        assert!(
            matches!(
                error,
                RootError::NotPrivate { .. } | RootError::UntrustedLink { .. }
            ),
            "{error}"
        );
        assert!(error.hint().is_some() || matches!(error, RootError::UntrustedLink { .. }));
        error.to_string()
    }

    #[test]
    fn private_folder_is_new_or_was_our_own_and_empty() {
        let (dir, root) = sandbox();
        let made = root
            .create_private_folder(Path::new("/tmp/a/demo"))
            .unwrap();
        assert_eq!(made, Path::new("/tmp/a/demo"));
        let meta = std::fs::metadata(dir.path().join("tmp/a/demo")).unwrap();
        assert_eq!(meta.mode() & 0o7777, 0o700);
        // Again: it is empty and owned by this user.
        assert_eq!(root.create_private_folder(&made).unwrap(), made);
        assert_eq!(root.resolve_private_folder(&made).unwrap(), made);
        std::fs::write(dir.path().join("tmp/a/demo/x"), "").unwrap();
        assert!(refusal(&root, "/tmp/a/demo").contains("not empty"));
    }

    #[test]
    fn folder_that_others_own_or_can_replace_is_refused() {
        let (dir, root) = sandbox();
        let at = |name: &str| dir.path().join("tmp").join(name);
        for name in ["open", "shared", "theirs"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        set_mode(&at("open"), 0o777);
        set_mode(&at("shared"), 0o775);
        assert!(refusal(&root, "/tmp/open").contains("can write to it"));
        assert!(refusal(&root, "/tmp/open/demo").contains("cannot use /tmp/open"));
        if !root.is_privileged() {
            return;
        }
        chown(at("shared"), None, Some(65534)).unwrap();
        assert!(refusal(&root, "/tmp/shared/demo").contains("can write to it"));
        chown(at("theirs"), Some(65534), None).unwrap();
        assert!(refusal(&root, "/tmp/theirs").contains("uid 65534"));
        assert!(refusal(&root, "/tmp/theirs/demo").contains("uid 65534"));
        assert!(
            root.resolve_private_folder(Path::new("/tmp/theirs"))
                .is_err()
        );
        // The sticky bit does not restrict the folder's owner.
        set_mode(&at("theirs"), 0o1777);
        assert!(refusal(&root, "/tmp/theirs/demo").contains("uid 65534"));
    }

    #[test]
    fn untrusted_link_is_not_followed_to_a_private_folder() {
        let (dir, root) = sandbox();
        let at = |name: &str| dir.path().join("tmp").join(name);
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        symlink("../etc", at("demo")).unwrap();
        symlink("../nothing", at("dangling")).unwrap();
        assert!(refusal(&root, "/tmp/demo").contains("not a folder"));
        assert!(refusal(&root, "/tmp/dangling").contains("not a folder"));
        assert!(refusal(&root, "/tmp/demo/x").contains("symbolic link"));
        assert!(root.resolve_private_folder(Path::new("/tmp/demo")).is_err());
        assert_eq!(
            std::fs::read_dir(dir.path().join("etc")).unwrap().count(),
            0
        );
    }
}
