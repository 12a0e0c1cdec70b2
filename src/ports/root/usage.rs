//! How much room a tree takes on disk.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, fstatat};
use serde::Serialize;

use super::{FileKind, Meta, Result, Root};

/// The unit of `st_blocks`, whatever the filesystem's own is.
const BLOCK: u64 = 512;

/// What a tree takes on disk, in bytes. Blocks that a filesystem shares between copies (reflinks)
/// are counted in each of them: `stat` does not tell them apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Free again once the tree is removed.
    pub own: u64,
    /// Of files that have a hard link outside of the tree as well.
    pub shared: u64,
}

impl Root {
    /// What is on disk for `path` and everything below it on its filesystem. Links are not followed,
    /// and a file with several hard links counts once. `None` when there is nothing.
    pub fn usage(&self, path: &Path) -> Result<Option<Usage>> {
        let Some(spot) = self.spot("look at", path)? else {
            return Ok(None);
        };
        let mut count = Count::default();
        match count.add(&spot.parent, &spot.name, None) {
            Ok(()) => Ok(Some(count.total())),
            Err(nix::errno::Errno::ENOENT) => Ok(None),
            Err(source) => Err(self.io("look at", path)(source)),
        }
    }
}

#[derive(Default)]
struct Count {
    usage: Usage,
    /// By inode, files with several hard links: their bytes, and how many links are yet to be found.
    linked: HashMap<u64, (u64, u64)>,
}

impl Count {
    fn add(&mut self, parent: impl AsFd, name: &OsStr, device: Option<u64>) -> nix::Result<()> {
        let stat = fstatat(parent.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let bytes = blocks(&stat) * BLOCK;
        let meta = Meta::from(stat);
        if device.is_some_and(|device| device != meta.device) {
            return Ok(());
        }
        if meta.kind == FileKind::Directory {
            self.usage.own += bytes;
            return self.add_below(parent, name, meta.device);
        }
        if meta.links <= 1 {
            self.usage.own += bytes;
        } else {
            let (_, open) = self.linked.entry(meta.inode).or_insert((bytes, meta.links));
            *open = open.saturating_sub(1);
        }
        Ok(())
    }

    fn add_below(&mut self, parent: impl AsFd, name: &OsStr, device: u64) -> nix::Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut dir = Dir::openat(parent.as_fd(), name, flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            let name: &CStr = entry.as_ref().map_err(|error| *error)?.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") {
                names.push(name.to_owned());
            }
        }
        for name in names {
            match self.add(&dir, OsStr::from_bytes(name.to_bytes()), Some(device)) {
                // Somebody works in it; what has just gone takes no room.
                Err(nix::errno::Errno::ENOENT) => {}
                done => done?,
            }
        }
        Ok(())
    }

    fn total(self) -> Usage {
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
    fn each_file_counts_once_and_what_is_linked_elsewhere_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        let root = Root::at(dir.path()).unwrap();
        let usage = || root.usage(Path::new("/tree")).unwrap().unwrap();
        let empty = usage();
        let size = 256 << 10;
        fs::write(tree.join("a/one"), vec![1; size]).unwrap();
        fs::write(&outside, vec![1; size]).unwrap();
        // The test stands and falls with what the filesystem says of a file.
        let of = |path: &Path| {
            use std::os::unix::fs::MetadataExt;
            fs::metadata(path).unwrap().blocks() * BLOCK
        };
        let one = of(&tree.join("a/one"));
        assert!(one >= size as u64);
        assert_eq!(usage().own - empty.own, one);
        // Both names of it are in the tree: it is the tree's own, once.
        fs::hard_link(tree.join("a/one"), tree.join("a/b/again")).unwrap();
        assert_eq!((usage().own - empty.own, usage().shared), (one, 0));
        // Another name is outside.
        fs::hard_link(&outside, tree.join("a/b/shared")).unwrap();
        assert_eq!(
            (usage().own - empty.own, usage().shared),
            (one, of(&outside))
        );
        // What a link leads to is not the tree's.
        symlink(dir.path(), tree.join("up")).unwrap();
        assert!(usage().own - empty.own < 2 * one);
        assert_eq!(root.usage(Path::new("/nothing")).unwrap(), None);
    }
}
