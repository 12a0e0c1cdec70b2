//! Listing a folder: every file below it that is an object.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use nix::dir::{Dir, Type};
use nix::errno::Errno;

use super::{DirStore, FILE, Meta, beneath};
use crate::ports::store::{Etag, Listed, MAX_OBJECT, StoreError, check_key, content_etag};

/// As S3 has it, in bytes.
const LONGEST_KEY: usize = 1024;

impl DirStore {
    pub(super) fn walk(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let mut rows = Vec::new();
        self.descend(self.folder()?, "", prefix, &mut rows)?;
        // Folder by folder is not key order: `a-b` sorts before `a/b`.
        rows.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(rows)
    }

    /// Adds what is below `folder`, whose keys start with `above` (empty, or ending in a slash).
    fn descend(
        &self,
        folder: OwnedFd,
        above: &str,
        prefix: &str,
        rows: &mut Vec<Listed>,
    ) -> Result<(), StoreError> {
        let failed = |errno| self.failed(above, errno);
        let mut folder = Dir::from_fd(folder).map_err(failed)?;
        let mut names = Vec::new();
        for entry in folder.iter() {
            let entry = entry.map_err(failed)?;
            // None: the file system does not say; opening will tell.
            let ours = matches!(entry.file_type(), None | Some(Type::File | Type::Directory));
            match entry.file_name().to_str() {
                Ok(name) if ours && !name.starts_with('.') && check_key(name).is_ok() => {
                    names.push(name.to_owned());
                }
                _ => {}
            }
        }
        for name in names {
            let key = format!("{above}{name}");
            let below = format!("{key}/");
            // No key is so long, so nothing below it is one: nobody decides how deep this goes.
            if key.len() > LONGEST_KEY {
                continue;
            }
            if !key.starts_with(prefix) && !prefix.starts_with(&below) {
                continue;
            }
            let file = match beneath(&folder, &name, FILE) {
                Ok(file) => File::from(file),
                // Gone since the folder was read, or never an object: a link, a socket.
                Err(Errno::ENOENT | Errno::ELOOP | Errno::ENXIO) => continue,
                // Anything else must not pass for a shorter list.
                Err(errno) => return Err(self.failed(&key, errno)),
            };
            let meta = file
                .metadata()
                .map_err(|error| self.failed_io(&key, &error))?;
            if meta.is_dir() {
                self.descend(file.into(), &below, prefix, rows)?;
            } else if meta.is_file() && key.starts_with(prefix) {
                let meta = Meta::of(&meta);
                let (etag, size) =
                    version(file, &meta).map_err(|error| self.failed_io(&key, &error))?;
                rows.push(Listed {
                    key,
                    etag,
                    modified: meta.modified,
                    size,
                });
            }
        }
        Ok(())
    }
}

/// The version of a file, and its size as read.
fn version(file: File, meta: &Meta) -> io::Result<(Etag, u64)> {
    if meta.size > MAX_OBJECT as u64 {
        // Not worth reading, since nobody can get it: a version that no content has.
        let etag = Etag(format!("unread-{}-{}", meta.size, meta.modified));
        return Ok((etag, meta.size));
    }
    let mut body = Vec::with_capacity(meta.size as usize + 1);
    file.take(MAX_OBJECT as u64).read_to_end(&mut body)?;
    Ok((content_etag(&body), body.len() as u64))
}
