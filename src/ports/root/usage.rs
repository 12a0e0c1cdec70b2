//! Disk usage of a tree.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, openat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};
use serde::Serialize;

use super::entry_name::is_dot_or_dot_dot;
use super::mounts::{FOLDER_FLAGS, open_beneath};
use super::remove_tree::open_parent;
use super::{FileKind, Meta, Result, Root, RootError};
use crate::ports::watchdog;

/// The unit of `st_blocks`, independent of the filesystem's block size.
const STAT_BLOCK_BYTES: u64 = 512;

/// Disk usage of a tree, in bytes. Blocks that copies share (reflinks) count in each of them: `stat` does not
/// tell them apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct DiskUsage {
    /// Freed when the tree is removed.
    pub own: u64,
    /// In files that also have a hard link outside the tree.
    pub shared: u64,
}

/// The size of a tree with more entries is not determined: its author would decide what the counting costs.
const MAX_ENTRIES: usize = 4_000_000;

/// Most bytes of memory for the names of its folders.
const MAX_NAMES_BYTES: usize = 128 << 20;

impl Root {
    /// Disk usage of `path` and everything below it on its mount. Does not follow links, and counts a file
    /// with several hard links once. `None` if it does not exist.
    pub(crate) fn disk_usage(&self, path: &Path) -> Result<Option<DiskUsage>> {
        let Some(resolved) = self.resolve_path("look at", path)? else {
            return Ok(None);
        };
        let mut count = UsageCounter::default();
        match count.count_tree(&resolved.parent, &resolved.name) {
            Ok(()) => Ok(Some(count.total())),
            Err(Errno::ENOENT) => Ok(None),
            Err(Errno::E2BIG) => Err(RootError::LimitExceeded {
                path: path.into(),
                limit: MAX_ENTRIES,
                unit: "files",
            }),
            Err(source) => Err(RootError::from_errno("look at", path.into(), source)),
        }
    }
}

#[derive(Default)]
struct UsageCounter {
    usage: DiskUsage,
    /// Files with several hard links: their bytes, and the number of links not found yet.
    linked: HashMap<(u64, u64), (u64, u64)>,
    entries: usize,
    /// Total length of the folder names.
    names_bytes: usize,
}

/// A folder on the path from the top to the current one.
struct FolderLevel {
    id: (u64, u64),
    /// Subfolders that have not been entered yet.
    todo: Vec<OsString>,
}

impl UsageCounter {
    /// Keeps two descriptors open, however deep the tree is.
    fn count_tree(&mut self, parent: impl AsFd, name: &OsStr) -> nix::Result<()> {
        let top = match open_beneath(parent.as_fd(), Path::new(name)) {
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                let stat = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
                self.count_file(&stat);
                return Ok(());
            }
            opened => opened?,
        };
        let mut levels = vec![self.count_folder(&top)?];
        let mut current = top;
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.todo.pop() else {
                levels.pop();
                if let Some(outer) = levels.last() {
                    current = open_parent(&current, outer.id)?;
                }
                continue;
            };
            match open_beneath(&current, Path::new(&name)) {
                Ok(inner) => {
                    levels.push(self.count_folder(&inner)?);
                    current = inner;
                }
                // Another mount does not belong to this tree. In a tree that is in use, an entry may have
                // just disappeared: it takes no space.
                Err(Errno::EXDEV | Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
                Err(source) => return Err(source),
            }
        }
        Ok(())
    }

    /// Counts a folder, and everything in it except subfolders.
    fn count_folder(&mut self, folder: &OwnedFd) -> nix::Result<FolderLevel> {
        let own = fstat(folder)?;
        self.usage.own += blocks(&own) * STAT_BLOCK_BYTES;
        let mut todo = Vec::new();
        let mut dir = openat(folder, ".", FOLDER_FLAGS, Mode::empty()).and_then(Dir::from_fd)?;
        for entry in dir.iter() {
            watchdog::record_progress();
            let entry = entry?;
            if is_dot_or_dot_dot(entry.file_name()) {
                continue;
            }
            self.entries += 1;
            if self.entries > MAX_ENTRIES || self.names_bytes > MAX_NAMES_BYTES {
                return Err(Errno::E2BIG);
            }
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if entry.file_type() == Some(Type::Directory) {
                self.names_bytes += name.len();
                todo.push(name.to_owned());
                continue;
            }
            match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) if Meta::from(stat).kind == FileKind::Directory => {
                    todo.push(name.to_owned());
                }
                Ok(stat) if stat.st_dev == own.st_dev => self.count_file(&stat),
                Ok(_) | Err(Errno::ENOENT) => {}
                Err(source) => return Err(source),
            }
        }
        Ok(FolderLevel {
            id: (own.st_dev, own.st_ino),
            todo,
        })
    }

    fn count_file(&mut self, stat: &FileStat) {
        let (bytes, meta) = (blocks(stat) * STAT_BLOCK_BYTES, Meta::from(*stat));
        if meta.links <= 1 {
            self.usage.own += bytes;
        } else {
            let file = (meta.device, meta.inode);
            let (_, open) = self.linked.entry(file).or_insert((bytes, meta.links));
            *open = open.saturating_sub(1);
        }
    }

    fn total(self) -> DiskUsage {
        let mut usage = self.usage;
        for (bytes, open) in self.linked.into_values() {
            match open {
                0 => usage.own += bytes,
                _ => usage.shared += bytes,
            }
        }
        usage
    }
}

fn blocks(stat: &FileStat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn hard_links_count_once_and_outside_links_count_as_shared() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        let root = Root::at(dir.path()).unwrap();
        let usage = || root.disk_usage(Path::new("/tree")).unwrap().unwrap();
        let empty = usage();
        let size = 256 << 10;
        fs::write(tree.join("a/one"), vec![1; size]).unwrap();
        fs::write(&outside, vec![1; size]).unwrap();
        // The expected values are those that the filesystem reports for each file.
        let of = |path: &Path| {
            use std::os::unix::fs::MetadataExt;
            fs::metadata(path).unwrap().blocks() * STAT_BLOCK_BYTES
        };
        let one = of(&tree.join("a/one"));
        assert!(one >= size as u64);
        assert_eq!(usage().own - empty.own, one);
        // Both names are in the tree: it counts as the tree's own, once.
        fs::hard_link(tree.join("a/one"), tree.join("a/b/again")).unwrap();
        assert_eq!((usage().own - empty.own, usage().shared), (one, 0));
        // Another name is outside the tree.
        fs::hard_link(&outside, tree.join("a/b/shared")).unwrap();
        assert_eq!(
            (usage().own - empty.own, usage().shared),
            (one, of(&outside))
        );
        // The target of a link does not count.
        symlink(dir.path(), tree.join("up")).unwrap();
        assert!(usage().own - empty.own < 2 * one);
        assert_eq!(root.disk_usage(Path::new("/nothing")).unwrap(), None);
    }
}
