//! Read-only operations.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, fstat, fstatat};

use super::{Meta, Result, Root, RootError};

impl Root {
    /// Metadata of `path`; for a link, of the link itself. `None` if it does not exist.
    pub(crate) fn meta(&self, path: &Path) -> Result<Option<Meta>> {
        let Some(resolved) = self.resolve_path("look at", path)? else {
            return Ok(None);
        };
        match fstatat(
            &resolved.parent,
            resolved.name.as_os_str(),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        ) {
            Ok(stat) => Ok(Some(stat.into())),
            Err(Errno::ENOENT) => Ok(None),
            Err(source) => Err(self.io_error("look at", path)(source)),
        }
    }

    /// Reads a whole file, unless it is longer than `limit` bytes. `None` if it does not exist.
    pub(crate) fn read(&self, path: &Path, limit: usize) -> Result<Option<Vec<u8>>> {
        Ok(self.read_with_meta(path, limit)?.map(|(_, body)| body))
    }

    /// Reads content and metadata from the same open file. A path that is not a regular file yields an empty
    /// content.
    pub(crate) fn read_with_meta(
        &self,
        path: &Path,
        limit: usize,
    ) -> Result<Option<(Meta, Vec<u8>)>> {
        let Some(resolved) = self.resolve_path("read", path)? else {
            return Ok(None);
        };
        // Non-blocking, so that a pipe in place of the file cannot block the pass.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let fd = match openat(
            &resolved.parent,
            resolved.name.as_os_str(),
            flags,
            Mode::empty(),
        ) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::ELOOP | Errno::ENXIO) => {
                return Ok(self.meta(path)?.map(|meta| (meta, Vec::new())));
            }
            Err(Errno::EAGAIN) => {
                return Err(RootError::Leased {
                    verb: "read",
                    path: path.into(),
                });
            }
            Err(source) => return Err(self.io_error("read", path)(source)),
        };
        let meta = Meta::from(fstat(&fd).map_err(self.io_error("read", path))?);
        let mut body = Vec::new();
        if meta.kind == super::FileKind::File {
            let too_large = || RootError::TooLarge {
                path: path.into(),
                limit,
            };
            if meta.size > limit as u64 {
                return Err(too_large());
            }
            let expected = usize::try_from(meta.size).unwrap_or(limit);
            read_whole(File::from(fd), expected, limit, &mut body)
                .map_err(|error| self.io_error("read", path)(errno_of(&error)))?;
            if body.len() > limit {
                return Err(too_large());
            }
        }
        Ok(Some((meta, body)))
    }

    /// The last `limit` bytes of a file, however long it is. `None` if it does not exist, or is no regular file.
    pub(crate) fn read_tail(&self, path: &Path, limit: u32) -> Result<Option<Vec<u8>>> {
        let Some(resolved) = self.resolve_path("read", path)? else {
            return Ok(None);
        };
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let name = resolved.name.as_os_str();
        let mut file = match openat(&resolved.parent, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENXIO) => return Ok(None),
            Err(source) => return Err(self.io_error("read", path)(source)),
        };
        let meta = Meta::from(fstat(&file).map_err(self.io_error("read", path))?);
        if meta.kind != super::FileKind::File {
            return Ok(None);
        }
        let limit = u64::from(limit);
        let mut body = Vec::new();
        file.seek(SeekFrom::Start(meta.size.saturating_sub(limit)))
            .and_then(|_| file.take(limit).read_to_end(&mut body))
            .map_err(|error| self.io_error("read", path)(errno_of(&error)))?;
        Ok(Some(body))
    }

    /// The target of a link, as written in it. `None` if it does not exist or is no link.
    pub(crate) fn read_link(&self, path: &Path) -> Result<Option<PathBuf>> {
        let Some(resolved) = self.resolve_path("read", path)? else {
            return Ok(None);
        };
        match readlinkat(&resolved.parent, resolved.name.as_os_str()) {
            Ok(target) => Ok(Some(target.into())),
            Err(Errno::ENOENT | Errno::EINVAL) => Ok(None),
            Err(source) => Err(self.io_error("read", path)(source)),
        }
    }

    /// Opens a folder for a call that takes only a path, below `/proc/self/fd` (a socket). `None` if it does
    /// not exist.
    pub(crate) fn open_folder_fd(&self, path: &Path) -> Result<Option<OwnedFd>> {
        Root::check_path(path)?;
        self.resolve_folder("open", path)
    }

    /// The names in a folder, sorted. `None` if it does not exist.
    pub(crate) fn list(&self, path: &Path) -> Result<Option<Vec<OsString>>> {
        let Some(resolved) = self.resolve_path("list", path)? else {
            return Ok(None);
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut dir = match Dir::openat(
            &resolved.parent,
            resolved.name.as_os_str(),
            flags,
            Mode::empty(),
        ) {
            Ok(dir) => dir,
            Err(Errno::ENOENT) => return Ok(None),
            Err(source) => return Err(self.io_error("list", path)(source)),
        };
        let mut names = Vec::new();
        for entry in dir.iter() {
            let entry = entry.map_err(self.io_error("list", path))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name.to_vec()));
            }
        }
        names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        Ok(Some(names))
    }
}

/// Reads a file of an expected size, with one call if the size is right: a regular file returns less than
/// requested only at its end.
pub(super) fn read_whole(
    mut file: File,
    expected: usize,
    limit: usize,
    body: &mut Vec<u8>,
) -> std::io::Result<()> {
    body.resize(expected + 1, 0);
    let mut filled = 0;
    while filled < body.len() {
        match file.read(&mut body[filled..]) {
            Ok(0) => break,
            Ok(n) if filled + n == expected => {
                filled += n;
                break;
            }
            Ok(n) => filled += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    body.truncate(filled);
    if filled > expected {
        // The file grew during the read, or has no size (/proc).
        file.take((limit + 1 - filled) as u64).read_to_end(body)?;
    }
    Ok(())
}

/// The errno behind an I/O error.
pub(super) fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO))
}
