//! Changing, whole or not at all.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, fstat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, fsync, symlinkat, unlinkat};

use super::give::{new_folder, own_new_link};
use super::read::errno;
use super::temporary::{discard, prepare};
use super::xattr::Carried;
use super::{Attrs, FileKind, Meta, Result, Root, RootError, Spot};

impl Root {
    /// Puts a file with this content and these attributes at `path`, replacing what is there in
    /// one step: a reader, or the host after a crash, sees the old file or the new one whole.
    ///
    /// The order is the point: a temporary in the same folder, content, owner, mode, fsync,
    /// rename, fsync of the folder. On any error the old file is untouched and the temporary gone.
    /// ACL, label and `user.*` attributes of the file that is replaced are carried over where nobody
    /// else could have put it there.
    pub fn replace(&self, path: &Path, body: &[u8], attrs: &Attrs) -> Result<()> {
        let spot = self.spot_in_place("write", path)?;
        let io = self.io("write", path);
        let carried = self.carried(path, &spot, attrs)?;
        let (temp, fd) = prepare(&spot, |name| fresh(&spot, name)).map_err(&io)?;
        let mut file = File::from(fd);
        let written = file
            .write_all(body)
            .map_err(|error| errno(&error))
            .and_then(|()| carried.map_or(Ok(()), |carried| carried.put_on(&file)))
            // Last: the ACL has a mode of its own.
            .and_then(|()| set(&file, attrs))
            .and_then(|()| fsync(&file))
            .and_then(|()| into_place(&spot, &temp));
        if let Err(source) = written {
            discard(&spot, &temp);
            return Err(io(source));
        }
        self.sync_folder(&spot).map_err(io)
    }

    /// What is to be carried over from the file that is there; `None`: nothing is there, or what is
    /// there may be somebody's who wants to read what comes in its place.
    fn carried(&self, path: &Path, spot: &Spot, attrs: &Attrs) -> Result<Option<Carried>> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let io = self.io("write", path);
        let old = match openat(&spot.parent, spot.name.as_os_str(), flags, Mode::empty()) {
            Ok(old) => old,
            Err(Errno::ENOENT) => return Ok(None),
            Err(source) => return Err(io(source)),
        };
        let meta = Meta::from(fstat(&old).map_err(&io)?);
        let maker = self.euid.as_raw();
        let same = meta.uid == attrs.uid.unwrap_or(maker);
        if meta.kind != FileKind::File || meta.links > 1 || !same {
            return Ok(None);
        }
        let carried = Carried::of(&old).map_err(&io)?;
        // Whoever may rename in the folder could give it a file of root's with an ACL for himself.
        let open = !carried.is_empty() && meta.uid == maker && !self.is_trusted_place(path)?;
        Ok((!open).then_some(carried))
    }

    /// Writes a note over the one that is there, in one call and without making anything anew: for
    /// what every pass says and what means nothing after a crash. Notes are padded with spaces to
    /// `width` bytes, so that a shorter one leaves nothing of a longer one.
    pub fn note(&self, path: &Path, body: &[u8], width: usize) -> Result<()> {
        let spot = self.spot_in_place("write", path)?;
        let io = self.io("write", path);
        let mode = Mode::from_bits_truncate(0o644);
        let mut file = self.open_plain(path, &spot, OFlag::O_WRONLY | OFlag::O_CREAT, mode)?;
        let mut padded = body.to_vec();
        padded.resize(body.len().max(width), b' ');
        file.write_all(&padded)
            .and_then(|()| {
                let length = file.metadata()?.len();
                // Something else was there: what is left of it is no part of the note.
                if length > padded.len() as u64 {
                    file.set_len(padded.len() as u64)?;
                }
                Ok(())
            })
            .map_err(|error| io(errno(&error)))
    }

    /// Points the link at `path` to `target`, replacing a link or file that is there in one step.
    pub fn link(&self, path: &Path, target: &Path, attrs: &Attrs) -> Result<()> {
        let spot = self.spot_in_place("link", path)?;
        let io = self.io("link", path);
        let linked = prepare(&spot, |name| symlinkat(target, &spot.parent, name));
        let (temp, ()) = linked.map_err(&io)?;
        let linked = own_new_link(&spot.parent, &temp, target.as_os_str(), attrs)
            .and_then(|()| into_place(&spot, &temp));
        if let Err(source) = linked {
            discard(&spot, &temp);
            return Err(RootError::of("link", path.into(), source));
        }
        self.sync_folder(&spot).map_err(io)
    }

    /// Makes a folder whose parent exists. One that is there already gets the attributes.
    ///
    /// Like a file it is prepared under another name: had a crash left it half made, nobody could
    /// tell that its mode was not meant.
    pub fn make_dir(&self, path: &Path, attrs: &Attrs) -> Result<()> {
        let attrs = Attrs {
            mode: attrs.mode.or(Some(0o755)),
            ..*attrs
        };
        let spot = self.spot_in_place("make", path)?;
        let io = self.io("make", path);
        match self.meta(path)? {
            Some(meta) if meta.kind == FileKind::Directory => {
                self.set_attrs(path, &attrs)?;
                return self.sync_folder(&spot).map_err(io);
            }
            Some(_) => return Err(io(Errno::ENOTDIR)),
            None => {}
        }
        // Closed to others until its owner and mode are right.
        let closed = Mode::from_bits_truncate(0o700);
        let made = prepare(&spot, |name| mkdirat(&spot.parent, name, closed));
        let (temp, ()) = made.map_err(&io)?;
        let made = new_folder(&spot.parent, &temp)
            .and_then(|folder| set(&folder, &attrs))
            .and_then(|()| into_place(&spot, &temp));
        if let Err(source) = made {
            discard(&spot, &temp);
            return Err(RootError::of("make", path.into(), source));
        }
        self.sync_folder(&spot).map_err(io)
    }

    /// Makes a folder and every missing one above it. The ones above get mode 0755 and root's
    /// ownership; one that exists is left as it is.
    pub fn make_dirs(&self, path: &Path, attrs: &Attrs) -> Result<()> {
        let missing: Vec<&Path> = {
            let mut missing = Vec::new();
            for folder in path.ancestors() {
                match self.meta(folder)? {
                    Some(_) => break,
                    None => missing.push(folder),
                }
            }
            missing
        };
        for folder in missing.iter().rev() {
            let wanted = if *folder == path {
                *attrs
            } else {
                Attrs::mode(0o755)
            };
            self.make_dir(folder, &wanted)?;
        }
        Ok(())
    }

    /// Sets owner, group and mode of what is at `path`; of a link, its owner only.
    pub fn set_attrs(&self, path: &Path, attrs: &Attrs) -> Result<()> {
        let spot = self.spot_in_place("change", path)?;
        let io = self.io("change", path);
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&spot.parent, spot.name.as_os_str(), flags, Mode::empty()).map_err(&io)?;
        let meta = Meta::from(fstat(&fd).map_err(&io)?);
        // A second name of the same file may be somewhere that its owner must not reach.
        if meta.kind == FileKind::File && meta.links > 1 && !self.is_trusted_place(path)? {
            return Err(RootError::Planted {
                verb: "change",
                path: path.into(),
                link: path.into(),
                owner: meta.uid,
            });
        }
        self.must_be_theirs(path, &spot, &fd, &meta, attrs)?;
        own(&fd, &OsString::new(), attrs).map_err(&io)?;
        if let (Some(mode), true) = (attrs.mode, meta.kind != FileKind::Symlink) {
            // Through /proc, because an O_PATH descriptor cannot be chmod-ed and any other way to
            // open could be refused by the very mode that is to be mended.
            let by_fd = format!("/proc/self/fd/{}", fd.as_raw_fd());
            fchmodat(
                nix::fcntl::AT_FDCWD,
                by_fd.as_str(),
                Mode::from_bits_truncate(mode),
                FchmodatFlags::FollowSymlink,
            )
            .map_err(&io)?;
        }
        Ok(())
    }

    /// Removes a file or link; one that is not there is no error.
    pub fn remove(&self, path: &Path) -> Result<()> {
        let Some(spot) = self.spot("remove", path)? else {
            return Ok(());
        };
        match unlinkat(
            &spot.parent,
            spot.name.as_os_str(),
            UnlinkatFlags::NoRemoveDir,
        ) {
            Ok(()) => self.sync_folder(&spot).map_err(self.io("remove", path)),
            Err(Errno::ENOENT) => Ok(()),
            Err(source) => Err(self.io("remove", path)(source)),
        }
    }

    /// Removes an empty folder; one that is not there is no error, one that is not empty is.
    pub fn remove_dir(&self, path: &Path) -> Result<()> {
        let Some(spot) = self.spot("remove", path)? else {
            return Ok(());
        };
        let name = spot.name.as_os_str();
        match unlinkat(&spot.parent, name, UnlinkatFlags::RemoveDir) {
            Ok(()) => self.sync_folder(&spot).map_err(self.io("remove", path)),
            Err(Errno::ENOENT) => Ok(()),
            Err(source) => Err(RootError::of("remove", path.into(), source)),
        }
    }

    /// Renames within the host. What is at `to` is replaced if it can be (a file by a file, an
    /// empty folder by a folder).
    pub fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let old = self.spot_in_place("rename", from)?;
        let new = self.spot_in_place("rename", to)?;
        renameat(
            &old.parent,
            old.name.as_os_str(),
            &new.parent,
            new.name.as_os_str(),
        )
        .map_err(self.io("rename", from))?;
        self.sync_folder(&new).map_err(self.io("rename", to))
    }

    /// Opens a file for appending, made with these attributes if it is not there. For logs: what
    /// is written to it is not synced.
    pub fn append(&self, path: &Path, attrs: &Attrs) -> Result<File> {
        let spot = self.spot_in_place("write", path)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND;
        let mode = Mode::from_bits_truncate(0o600);
        let file = self.open_plain(path, &spot, flags, mode)?;
        set(&file, attrs).map_err(self.io("write", path))?;
        Ok(file)
    }

    /// Opens a plain file to write to it, without ever waiting for somebody: for the reader of a pipe in
    /// its place, or for the holder of a lease. A second name of it may be somewhere that its owner must
    /// not reach.
    fn open_plain(&self, path: &Path, spot: &Spot, flags: OFlag, mode: Mode) -> Result<File> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let verb = "write";
        let no_file = || RootError::NotPlain {
            verb,
            path: path.into(),
        };
        let fd = match openat(&spot.parent, spot.name.as_os_str(), flags, mode) {
            Ok(fd) => fd,
            Err(Errno::ENXIO | Errno::ELOOP | Errno::EISDIR) => return Err(no_file()),
            Err(source) => return Err(RootError::of(verb, path.into(), source)),
        };
        let meta = Meta::from(fstat(&fd).map_err(self.io(verb, path))?);
        if meta.kind != FileKind::File || (meta.links > 1 && !self.is_trusted_place(path)?) {
            return Err(no_file());
        }
        Ok(File::from(fd))
    }

    /// Opens a file to lock it: nobody else can, since whoever can open it can lock it.
    pub fn open_lock(&self, path: &Path) -> Result<File> {
        let spot = self.spot_in_place("lock", path)?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(0o600);
        let fd = openat(&spot.parent, spot.name.as_os_str(), flags, mode);
        Ok(File::from(fd.map_err(self.io("lock", path))?))
    }

    fn sync_folder(&self, spot: &Spot) -> nix::Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match openat(&spot.parent, ".", flags, Mode::empty()) {
            Ok(folder) => fsync(&folder),
            // A folder that may be written but not read (an unprivileged sandbox) cannot be synced.
            Err(Errno::EACCES) => Ok(()),
            Err(source) => Err(source),
        }
    }
}

/// A new, empty file that nobody else can open yet.
fn fresh(spot: &Spot, name: &OsStr) -> nix::Result<OwnedFd> {
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(&spot.parent, name, flags, Mode::from_bits_truncate(0o600))
}

/// Gives what was prepared its own name.
fn into_place(spot: &Spot, temp: &OsStr) -> nix::Result<()> {
    renameat(&spot.parent, temp, &spot.parent, spot.name.as_os_str())
}

pub(super) fn set(file: &File, attrs: &Attrs) -> nix::Result<()> {
    // Owner first: chown clears the set-id bits that mode may ask for.
    own(file, &OsString::new(), attrs)?;
    match attrs.mode {
        Some(mode) => fchmod(file, Mode::from_bits_truncate(mode)),
        None => fchmod(file, Mode::from_bits_truncate(0o644)),
    }
}

/// Sets the owner of `name` below `at`, or of `at` itself when `name` is empty. Follows nothing.
pub(super) fn own(at: impl AsFd, name: &OsStr, attrs: &Attrs) -> nix::Result<()> {
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
