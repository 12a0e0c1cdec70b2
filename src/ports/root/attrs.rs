//! Type, owner and permissions of a path.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;

use jiff::Timestamp;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod};
use nix::unistd::{Gid, Uid, fchownat};

/// The file type of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    File,
    Directory,
    Symlink,
    /// A socket, pipe or device.
    Other,
}

impl FileKind {
    /// With an article, for messages: "a directory".
    pub(crate) fn describe(self) -> &'static str {
        match self {
            FileKind::File => "a file",
            FileKind::Directory => "a directory",
            FileKind::Symlink => "a symbolic link",
            FileKind::Other => "a socket, pipe or device",
        }
    }
}

/// Metadata of a path; for a symbolic link, of the link itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meta {
    pub kind: FileKind,
    /// Permission bits, including set-id and sticky (07777).
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// In bytes.
    pub size: u64,
    /// Bytes allocated on disk: fewer than `size` if the file has holes.
    pub disk_bytes: u64,
    pub links: u64,
    pub inode: u64,
    pub device: u64,
    /// Last change of content, owner or mode (ctime), by the host's clock.
    pub ctime: Timestamp,
}

impl From<FileStat> for Meta {
    fn from(stat: FileStat) -> Meta {
        let kind = match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFREG => FileKind::File,
            SFlag::S_IFDIR => FileKind::Directory,
            SFlag::S_IFLNK => FileKind::Symlink,
            _ => FileKind::Other,
        };
        let nanos = i32::try_from(stat.st_ctime_nsec).unwrap_or(0);
        Meta {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            disk_bytes: u64::try_from(stat.st_blocks)
                .unwrap_or(0)
                .saturating_mul(512),
            // Its width differs between architectures.
            #[allow(clippy::unnecessary_cast)]
            links: stat.st_nlink as u64,
            inode: stat.st_ino,
            device: stat.st_dev,
            ctime: Timestamp::new(stat.st_ctime, nanos).unwrap_or(Timestamp::UNIX_EPOCH),
        }
    }
}

/// Attributes to set on a path. `None` leaves that part unchanged (for a new file: the process's default).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Attrs {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

impl Attrs {
    pub(crate) fn mode(mode: u32) -> Attrs {
        Attrs {
            mode: Some(mode),
            ..Attrs::default()
        }
    }
}

/// Sets the owner and the mode of an open file or folder.
pub(super) fn set_file_attrs(file: &File, attrs: &Attrs) -> nix::Result<()> {
    // Owner first: chown clears the set-id bits that mode may ask for.
    chown_at(file, OsStr::new(""), attrs)?;
    match attrs.mode {
        Some(mode) => fchmod(file, Mode::from_bits_truncate(mode)),
        None => fchmod(file, Mode::from_bits_truncate(0o644)),
    }
}

/// Sets the owner of `name` below `at`, or of `at` itself when `name` is empty. Follows nothing.
pub(super) fn chown_at(at: impl AsFd, name: &OsStr, attrs: &Attrs) -> nix::Result<()> {
    if attrs.uid.is_none() && attrs.gid.is_none() {
        return Ok(());
    }
    fchownat(
        at,
        name,
        attrs.uid.map(Uid::from_raw),
        attrs.gid.map(Gid::from_raw),
        AtFlags::AT_EMPTY_PATH | AtFlags::AT_SYMLINK_NOFOLLOW,
    )
}
