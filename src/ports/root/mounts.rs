//! Mount boundaries: operations on a tree never cross from one mount into another.
//!
//! Compares mount ids rather than devices: a bind mount has the device of its source, and each btrfs
//! subvolume has its own device within one mount.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::Mode;

use super::read::errno_of;
use super::{Result, Root};

/// Flags for opening a folder to list or change its content.
pub(super) const FOLDER_FLAGS: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Opens the folder at a relative path below `top`, through real folders of the same mount only. Fails with
/// `EXDEV` at a mount point, without accessing the mounted filesystem.
pub(super) fn open_beneath(top: impl AsFd, path: &Path) -> nix::Result<OwnedFd> {
    let open_how = OpenHow::new().flags(FOLDER_FLAGS).resolve(
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS
            | ResolveFlag::RESOLVE_NO_XDEV,
    );
    match openat2(top.as_fd(), path, open_how) {
        // The kernel or a sandbox does not support openat2.
        Err(Errno::ENOSYS | Errno::EPERM) => open_stepwise(top, path),
        opened => opened,
    }
}

/// Does the same with one call for each component.
fn open_stepwise(top: impl AsFd, path: &Path) -> nix::Result<OwnedFd> {
    let mount = mount_id(top.as_fd())?;
    let mut fd = openat(top, ".", FOLDER_FLAGS, Mode::empty())?;
    for part in path.components() {
        match part {
            std::path::Component::Normal(part) => {
                fd = openat(&fd, part, FOLDER_FLAGS, Mode::empty())?
            }
            std::path::Component::CurDir => {}
            _ => return Err(Errno::ELOOP),
        }
        if mount_id(fd.as_fd())? != mount {
            return Err(Errno::EXDEV);
        }
    }
    Ok(fd)
}

pub(super) fn mount_id(of: impl AsFd) -> nix::Result<String> {
    let info = format!("/proc/self/fdinfo/{}", of.as_fd().as_raw_fd());
    let text = std::fs::read_to_string(info).map_err(|error| errno_of(&error))?;
    let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    id.map(|id| id.trim().to_owned()).ok_or(Errno::ENOSYS)
}

impl Root {
    /// The mount points at or below a path of the host, as this process sees them.
    pub(crate) fn mounts_below(&self, path: &Path) -> Result<Vec<PathBuf>> {
        let table = Path::new("/proc/self/mountinfo");
        let text =
            std::fs::read(table).map_err(|error| self.io_error("read", table)(errno_of(&error)))?;
        let top = self.machine_path(&self.canonicalize(path)?.unwrap_or_else(|| path.into()));
        let points = text.split(|byte| *byte == b'\n').filter_map(mount_point);
        Ok(points.filter(|point| point.starts_with(&top)).collect())
    }
}

/// The fifth field of a line; octal escapes (`\040`) stand for spaces and the like.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let written = line.split(|byte| *byte == b' ').nth(4)?;
    let mut point = Vec::with_capacity(written.len());
    let mut rest = written;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                point.push(byte);
                rest = &after[3..];
            }
            None => {
                point.push(*first);
                rest = after;
            }
        }
    }
    Some(OsString::from_vec(point).into())
}

/// Shortens a long path for a message to its beginning and its end.
pub(super) fn shorten_path(top: &Path, parts: impl Iterator<Item = OsString>) -> PathBuf {
    const LONGEST: usize = 512;
    let mut path = top.to_owned();
    let mut last = None;
    for name in parts {
        if path.as_os_str().as_bytes().len() < LONGEST {
            path.push(&name);
            last = None;
        } else {
            last = Some(name);
        }
    }
    match last {
        Some(last) => path.join(OsStr::new("…")).join(last),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_spaces_are_read() {
        let line = b"36 35 98:0 /mnt1 /srv/a\\040b rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount_point(line), Some("/srv/a b".into()));
        assert_eq!(mount_point(b""), None);
    }

    #[test]
    fn open_stepwise_behaves_like_openat2() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink("b", dir.path().join("a/link")).unwrap();
        let top = std::fs::File::open(dir.path()).unwrap();
        for open in [open_beneath, open_stepwise] {
            assert!(open(&top, Path::new("a/b")).is_ok());
            for (way, error) in [("a/c", Errno::ENOENT), ("a/link", Errno::ELOOP)] {
                let refused = open(&top, Path::new(way)).unwrap_err();
                let also = [error, Errno::ENOTDIR];
                assert!(also.contains(&refused), "{way}: {refused}");
            }
        }
        // /proc is another mount.
        let root = std::fs::File::open("/").unwrap();
        for open in [open_beneath, open_stepwise] {
            assert_eq!(open(&root, Path::new("proc")).unwrap_err(), Errno::EXDEV);
        }
    }
}
