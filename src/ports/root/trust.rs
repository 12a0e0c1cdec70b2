//! Trusted reads of settings, roles, templates and keys. These decide what root does, so such a file counts
//! only if no user other than root (or the user who runs trueup) could have written it.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::libc;
use nix::sys::stat::{Mode, fstat};
use nix::unistd::getegid;

use super::read::{errno_of, read_whole};
use super::resolve::PATH_FLAGS;
use super::{Exposure, FileKind, Meta, Result, Root, RootError};

impl Root {
    /// Reads content and metadata like [`Root::read_with_meta`], if only root and the user who runs trueup
    /// can change the file, every folder and every link on its path. `extra_uid` is one more user who may:
    /// the one whom the file concerns. Checks and reads the same open file. If the file does not exist,
    /// checks that no other user could have removed it.
    pub(crate) fn read_trusted(
        &self,
        path: &Path,
        limit: usize,
        extra_uid: Option<u32>,
    ) -> Result<Option<(Meta, Vec<u8>)>> {
        Root::check_path(path)?;
        let io = self.io_error("read", path);
        let Some(name) = path.file_name() else {
            return Err(io(Errno::EISDIR));
        };
        let parent = path.parent().unwrap_or(Path::new("/"));
        let Some(parent) = self.open_trusted_folder(parent, path, extra_uid)? else {
            return Ok(None);
        };
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let fd = match openat(&parent, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::ELOOP) => {
                return match self.canonicalize(path)? {
                    Some(target) => self.read_trusted(&target, limit, extra_uid),
                    None => Ok(None),
                };
            }
            Err(source) => return Err(io(source)),
        };
        let meta = self.check_exposure(path, path, &fd, extra_uid)?;
        let mut body = Vec::new();
        if meta.kind != FileKind::File {
            return Ok(Some((meta, body)));
        }
        let expected = usize::try_from(meta.size).unwrap_or(usize::MAX);
        if expected <= limit {
            read_whole(File::from(fd), expected, limit, &mut body)
                .map_err(|error| io(errno_of(&error)))?;
        }
        match expected > limit || body.len() > limit {
            true => Err(RootError::TooLarge {
                path: path.into(),
                limit,
            }),
            false => Ok(Some((meta, body))),
        }
    }

    /// Whether there is a program that only root and the user who runs trueup can change, with every folder and every link
    /// on its path. An error if others can.
    pub(crate) fn has_trusted_program(&self, path: &Path) -> Result<bool> {
        match self.read_trusted(path, 0, None) {
            Ok(found) => Ok(found.is_some_and(|(meta, _)| meta.kind == FileKind::File)),
            // The check comes before the size.
            Err(RootError::TooLarge { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The names in a folder, sorted, if only root and the user who runs trueup can change it and every
    /// folder on its path. `None` if it does not exist.
    pub(crate) fn list_trusted(&self, path: &Path) -> Result<Option<Vec<OsString>>> {
        Root::check_path(path)?;
        match self.open_trusted_folder(path, path, None)? {
            Some(_) => self.list(path),
            None => Ok(None),
        }
    }

    /// Whether all users may read this file, by its mode and those of the folders on its path.
    pub(crate) fn is_readable_by_all(&self, path: &Path) -> bool {
        let open = |path: &Path, bits| {
            let meta = self.meta(path).ok().flatten();
            meta.is_some_and(|meta| meta.mode & bits == bits)
        };
        let mut folders = path.ancestors().skip(1);
        open(path, 0o004) && folders.all(|folder| open(folder, 0o001))
    }

    /// Opens a folder on the path to `path`, after checking every folder down to it. Many files share few
    /// folders, and what only root can change stays so: each folder is checked once.
    fn open_trusted_folder(
        &self,
        folder: &Path,
        path: &Path,
        extra_uid: Option<u32>,
    ) -> Result<Option<Rc<OwnedFd>>> {
        let key = (folder.to_owned(), extra_uid);
        if let Some(known) = self.trusted_folders.borrow().get(&key) {
            return Ok(known.clone());
        }
        let found = self.check_folder(folder, path, extra_uid)?;
        self.trusted_folders.borrow_mut().insert(key, found.clone());
        Ok(found)
    }

    /// Checks a folder and opens it in its parent, for which the same was done before.
    fn check_folder(
        &self,
        folder: &Path,
        path: &Path,
        extra_uid: Option<u32>,
    ) -> Result<Option<Rc<OwnedFd>>> {
        let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else {
            return self.walk_trusted_path(folder, path, extra_uid);
        };
        let Some(parent) = self.open_trusted_folder(parent, path, extra_uid)? else {
            return Ok(None);
        };
        match openat(
            &*parent,
            name,
            PATH_FLAGS | OFlag::O_NOFOLLOW,
            Mode::empty(),
        ) {
            Ok(child) => {
                self.check_exposure(path, folder, &child, extra_uid)?;
                Ok(Some(Rc::new(child)))
            }
            Err(Errno::ENOENT) => Ok(None),
            // A link, or an error that the walk describes.
            Err(_) => self.walk_trusted_path(folder, path, extra_uid),
        }
    }

    /// Opens a folder after checking each one on its path and behind the links in it.
    fn walk_trusted_path(
        &self,
        folder: &Path,
        path: &Path,
        extra_uid: Option<u32>,
    ) -> Result<Option<Rc<OwnedFd>>> {
        match self.walk_path("read", folder)? {
            Some((mut steps, None)) => {
                let mut current = PathBuf::from("/");
                for step in &steps {
                    current.push(&step.name);
                    self.check_exposure(path, &current, &step.fd, extra_uid)?;
                }
                Ok(steps.pop().map(|step| Rc::new(step.fd)))
            }
            Some((_, Some(_))) => Err(self.io_error("read", path)(Errno::ENOTDIR)),
            None => Ok(None),
        }
    }

    /// Refuses what another user can change. Other users may create files in a folder like `/tmp`: its sticky
    /// bit protects root's entries, and the next step checks who owns the entry.
    fn check_exposure(
        &self,
        path: &Path,
        current: &Path,
        fd: &OwnedFd,
        extra_uid: Option<u32>,
    ) -> Result<Meta> {
        let meta = Meta::from(fstat(fd).map_err(self.io_error("read", path))?);
        let exposure = match meta.mode & 0o022 {
            _ if !self.is_trusted_uid(meta.uid) && extra_uid != Some(meta.uid) => {
                Exposure::Owner(meta.uid)
            }
            0 => return Ok(meta),
            _ if meta.kind == FileKind::Directory && meta.mode & 0o1000 != 0 => return Ok(meta),
            write if write & 0o002 != 0 => Exposure::Everybody(meta.mode),
            // With an access control list, the mode's group bits are its mask.
            _ if has_access_list(fd) => Exposure::AccessList,
            _ if meta.gid == 0 => return Ok(meta),
            // Some distributions give each user a group of his own.
            _ if !self.is_privileged() && meta.gid == getegid().as_raw() => return Ok(meta),
            _ => Exposure::Group(meta.gid),
        };
        Err(RootError::Untrusted {
            path: path.into(),
            part: current.into(),
            exposure,
        })
    }
}

fn has_access_list(fd: &OwnedFd) -> bool {
    // Through /proc: the folder's descriptor was opened with O_PATH.
    let Ok(path) = std::ffi::CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())) else {
        return true;
    };
    let name = c"system.posix_acl_access";
    // SAFETY: two NUL-terminated strings; asked for the size only, the call writes nothing.
    unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) > 0 }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    struct Fixture {
        root: Root,
        dir: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Fixture {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(dir.path().join("etc/node.d")).unwrap();
            std::fs::write(dir.path().join("etc/node.d/host.yml"), "roles: []").unwrap();
            Fixture {
                root: Root::at(dir.path()).unwrap(),
                dir,
            }
        }

        fn mode(&self, path: &str, mode: u32) {
            let path = self.dir.path().join(path);
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        }

        fn owner(&self, path: &str, uid: u32, gid: u32) {
            chown(self.dir.path().join(path), Some(uid), Some(gid)).unwrap();
        }

        fn read(&self, also: Option<u32>) -> std::result::Result<String, String> {
            let file = Path::new("/etc/node.d/host.yml");
            // A new `Root`: an old one caches checks from before the change.
            let root = Root::at(self.dir.path()).unwrap();
            match root.read_trusted(file, 100, also) {
                Ok(found) => Ok(String::from_utf8(found.unwrap().1).unwrap()),
                Err(error) => Err(format!("{error}\n{}", error.hint().unwrap_or_default())),
            }
        }
    }

    #[test]
    fn file_that_others_can_change_is_not_trusted() {
        let case = Fixture::new();
        assert_eq!(case.read(None).unwrap(), "roles: []");
        for (path, was) in [
            ("etc/node.d/host.yml", 0o644),
            ("etc/node.d", 0o755),
            ("etc", 0o755),
        ] {
            case.mode(path, was | 0o002);
            let message = case.read(None).unwrap_err();
            assert!(
                message.contains(&format!("/{path} is writable by everybody")),
                "{message}"
            );
            assert!(message.contains("chmod o-w"), "{message}");
            case.mode(path, was);
        }
        case.mode("etc", 0o1777);
        assert!(
            case.read(None).is_ok(),
            "the sticky bit keeps others from what is ours"
        );
        if !case.root.is_privileged() {
            return;
        }
        case.owner("etc/node.d", 0, 100);
        case.mode("etc/node.d", 0o775);
        assert!(case.read(None).unwrap_err().contains("gid 100"));
        case.owner("etc/node.d", 0, 0);
        assert!(case.read(None).is_ok(), "root's own group is root");
        for path in ["etc/node.d/host.yml", "etc/node.d", "etc"] {
            case.owner(path, 1234, 0);
            let message = case.read(None).unwrap_err();
            assert!(
                message.contains(&format!("/{path} belongs to uid 1234")),
                "{message}"
            );
            assert!(message.contains("chown 0"), "{message}");
            assert!(case.read(Some(1234)).is_ok());
            case.owner(path, 0, 0);
        }
    }

    #[test]
    fn acl_is_detected_behind_the_mode_bits_of_roots_group() {
        let case = Fixture::new();
        // Version 2; user::rw-, user:1234:rw-, group::r--, mask::rw-, other::r--.
        let mut list = 2_u32.to_le_bytes().to_vec();
        for (tag, bits, id) in [
            (1, 6, u32::MAX),
            (2, 6, 1234),
            (4, 4, u32::MAX),
            (16, 6, u32::MAX),
            (32, 4, u32::MAX),
        ] {
            list.extend(u16::to_le_bytes(tag));
            list.extend(u16::to_le_bytes(bits));
            list.extend(u32::to_le_bytes(id));
        }
        let file = case.dir.path().join("etc/node.d/host.yml");
        let path = std::ffi::CString::new(file.to_str().unwrap()).unwrap();
        // SAFETY: NUL-terminated strings, and the length of the buffer.
        let set = unsafe {
            let name = c"system.posix_acl_access";
            libc::setxattr(
                path.as_ptr(),
                name.as_ptr(),
                list.as_ptr().cast(),
                list.len(),
                0,
            )
        };
        // Not every filesystem supports them.
        if set == 0 {
            let message = case.read(None).unwrap_err();
            assert!(message.contains("access control list"), "{message}");
        }
    }

    #[test]
    fn link_is_followed_only_in_trusted_folders() {
        let case = Fixture::new();
        let link = case.dir.path().join("etc/node.d/host.yml");
        std::fs::rename(&link, case.dir.path().join("elsewhere.yml")).unwrap();
        symlink("../../elsewhere.yml", &link).unwrap();
        assert_eq!(case.read(None).unwrap(), "roles: []");
        case.mode("elsewhere.yml", 0o666);
        assert!(
            case.read(None)
                .unwrap_err()
                .contains("/elsewhere.yml is writable")
        );
        case.mode("elsewhere.yml", 0o644);
        case.mode("etc/node.d", 0o777);
        assert!(case.read(None).is_err());
    }

    #[test]
    fn linked_folder_is_checked_at_its_target() {
        let case = Fixture::new();
        symlink("node.d", case.dir.path().join("etc/alias")).unwrap();
        let read = |path: &str| {
            let root = Root::at(case.dir.path()).unwrap();
            root.read_trusted(Path::new(path), 100, None)
        };
        assert!(read("/etc/alias/host.yml").unwrap().is_some());
        case.mode("etc/node.d", 0o777);
        assert!(read("/etc/alias/host.yml").is_err());
    }

    #[test]
    fn missing_folder_counts_only_in_a_trusted_one() {
        let case = Fixture::new();
        let read = || {
            let root = Root::at(case.dir.path()).unwrap();
            root.read_trusted(Path::new("/etc/gone/below/host.yml"), 100, None)
        };
        assert!(read().unwrap().is_none());
        case.mode("etc", 0o777);
        assert!(read().is_err());
    }

    #[test]
    fn fifo_in_place_of_settings_does_not_block() {
        let case = Fixture::new();
        let path = case.dir.path().join("etc/node.d/host.yml");
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
        assert_eq!(case.read(None).unwrap(), "");
    }
}
