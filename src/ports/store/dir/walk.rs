//! Lists a folder: every file below it that is an object.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use nix::dir::{Dir, Type};
use nix::errno::Errno;

use super::{DirStore, FILE_FLAGS, FileMeta, open_beneath};
use crate::ports::store::{
    Etag, MAX_LIST_LENGTH, MAX_OBJECT_SIZE, ObjectMeta, StoreError, check_key, content_etag,
};

/// Maximum depth of folders; trueup's own keys are not deeper, and each level takes a descriptor.
const MAX_DEPTH: usize = 16;

/// A version is the hash of a content, so a list reads all that it lists: at most this many bytes.
const MAX_READ: u64 = 256 << 20;

/// State of a listing.
struct ListWalk<'w> {
    prefix: &'w str,
    rows: Vec<ObjectMeta>,
    /// Bytes that may still be read.
    bytes_left: u64,
    /// Number of directory entries read, including those that are not objects.
    entries_read: usize,
}

impl DirStore {
    pub(super) fn list_objects(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        self.list_objects_within(prefix, MAX_READ)
    }

    /// Reads at most `most` bytes.
    pub(super) fn list_objects_within(
        &self,
        prefix: &str,
        most: u64,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        let mut walk = ListWalk {
            prefix,
            rows: Vec::new(),
            bytes_left: most,
            entries_read: 0,
        };
        self.walk_folder(self.open_root()?, "", &mut walk)?;
        let mut rows = walk.rows;
        // The walk is not in key order: `a-b` sorts before `a/b`.
        rows.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(rows)
    }

    /// Adds the objects below `folder`, whose keys start with `above` (empty, or ending in a slash).
    fn walk_folder(
        &self,
        folder: OwnedFd,
        above: &str,
        walk: &mut ListWalk<'_>,
    ) -> Result<(), StoreError> {
        if above.matches('/').count() > MAX_DEPTH {
            return Err(self.list_too_large(above, format!("folders more than {MAX_DEPTH} deep")));
        }
        let mut folder = Dir::from_fd(folder).map_err(|errno| self.errno_error(above, errno))?;
        for name in self.object_names(&mut folder, above, walk)? {
            let key = format!("{above}{name}");
            let below = format!("{key}/");
            if !key.starts_with(walk.prefix) && !walk.prefix.starts_with(&below) {
                continue;
            }
            let file = match open_beneath(&folder, &name, FILE_FLAGS) {
                Ok(file) => File::from(file),
                // Removed since the folder was read, or not an object: a link, a socket.
                Err(Errno::ENOENT | Errno::ELOOP | Errno::ENXIO) => continue,
                // Any other error must not look like a shorter list.
                Err(errno) => return Err(self.errno_error(&key, errno)),
            };
            let meta = file
                .metadata()
                .map_err(|error| self.io_error(&key, &error))?;
            if meta.is_dir() {
                self.walk_folder(file.into(), &below, walk)?;
            } else if meta.is_file() && key.starts_with(walk.prefix) {
                let object = self.read_object_meta(key, file, &FileMeta::of(&meta))?;
                let read = object.size.min(MAX_OBJECT_SIZE as u64);
                walk.bytes_left = walk.bytes_left.checked_sub(read).ok_or_else(|| {
                    self.list_too_large(above, format!("more than {} MiB of files", MAX_READ >> 20))
                })?;
                walk.rows.push(object);
            }
        }
        Ok(())
    }

    /// The names in a folder that an object or a folder of objects may have.
    fn object_names(
        &self,
        folder: &mut Dir,
        above: &str,
        walk: &mut ListWalk<'_>,
    ) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        for entry in folder.iter() {
            let entry = entry.map_err(|errno| self.errno_error(above, errno))?;
            walk.entries_read += 1;
            if walk.entries_read > MAX_LIST_LENGTH {
                let content = format!("more than {MAX_LIST_LENGTH} files");
                return Err(self.list_too_large(above, content));
            }
            // None: the file system does not report the type; opening shows it.
            let may_be_object =
                matches!(entry.file_type(), None | Some(Type::File | Type::Directory));
            match entry.file_name().to_str() {
                Ok(name) if may_be_object && !name.starts_with('.') && check_key(name).is_ok() => {
                    names.push(name.to_owned());
                }
                _ => {}
            }
        }
        Ok(names)
    }

    fn read_object_meta(
        &self,
        key: String,
        file: File,
        meta: &FileMeta,
    ) -> Result<ObjectMeta, StoreError> {
        let (etag, size) =
            etag_and_size(file, meta).map_err(|error| self.io_error(&key, &error))?;
        Ok(ObjectMeta {
            key,
            etag,
            modified: meta.modified,
            size,
        })
    }

    fn list_too_large(&self, above: &str, what: String) -> StoreError {
        StoreError::ListTooLarge {
            store: self.address.clone(),
            prefix: above.to_owned(),
            what,
        }
    }
}

/// The version of a file, and its size as read.
fn etag_and_size(file: File, meta: &FileMeta) -> io::Result<(Etag, u64)> {
    if meta.size > MAX_OBJECT_SIZE as u64 {
        // No reader accepts this size, so do not read it: use a version that no content has.
        let etag = Etag(format!("unread-{}-{}", meta.size, meta.modified));
        return Ok((etag, meta.size));
    }
    let mut body = Vec::with_capacity(meta.size as usize + 1);
    file.take(MAX_OBJECT_SIZE as u64).read_to_end(&mut body)?;
    Ok((content_etag(&body), body.len() as u64))
}
