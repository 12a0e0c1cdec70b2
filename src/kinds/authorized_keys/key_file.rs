//! The `authorized_keys` file and its folder: paths, contents and owners.

use std::path::{Path, PathBuf};

use crate::ports::Host;
use crate::ports::accounts::User;
use crate::ports::root::{Attrs, FileKind, Meta, RootError};
use crate::resource::{Failure, FieldChange, Mode};

/// Size limit of an `authorized_keys` file, in bytes.
const MAX_FILE_BYTES: usize = 1 << 20;

/// A file or folder as found on the host.
pub(super) struct ObservedPath {
    pub(super) kind: FileKind,
    pub(super) mode: Mode,
    /// As `user:group`. An unprivileged run, which cannot change owners, reports the wanted one.
    pub(super) owner: String,
}

impl ObservedPath {
    pub(super) fn from_meta(
        meta: &Meta,
        wanted: &User,
        host: &Host,
    ) -> Result<ObservedPath, Failure> {
        let privileged = host.root.is_privileged();
        Ok(ObservedPath {
            kind: meta.kind,
            mode: Mode(meta.mode),
            owner: if privileged {
                format_owner(meta.uid, meta.gid, host)?
            } else {
                format_owner(wanted.uid, wanted.gid, host)?
            },
        })
    }

    pub(super) fn diff(
        &self,
        [mode_field, owner_field]: [&'static str; 2],
        wanted_mode: u32,
        owner: &String,
    ) -> impl Iterator<Item = FieldChange> {
        FieldChange::diff(mode_field, &self.mode, &Mode(wanted_mode))
            .into_iter()
            .chain(FieldChange::diff(owner_field, &self.owner, owner))
    }
}

pub(super) fn format_owner(uid: u32, gid: u32, host: &Host) -> Result<String, Failure> {
    let user = host.accounts.user_name(&host.root, uid)?;
    let group = host.accounts.group_name(&host.root, gid)?;
    Ok(format!("{user}:{group}"))
}

/// The paths of the folder and the file.
pub(super) fn paths(user: &User) -> (PathBuf, PathBuf) {
    let folder = user.home.join(".ssh");
    let file = folder.join("authorized_keys");
    (folder, file)
}

/// The attributes to set; without an owner in an unprivileged run.
pub(super) fn attrs(user: &User, mode: u32, host: &Host) -> Attrs {
    let privileged = host.root.is_privileged();
    Attrs {
        mode: Some(mode),
        uid: privileged.then_some(user.uid),
        gid: privileged.then_some(user.gid),
    }
}

/// Reads the file; `None` if it does not exist. Where none of its keys is to be kept, a file that cannot be
/// read as one (leased, too large, not text, not regular) counts as empty; elsewhere it is an error, and so
/// is a folder everywhere.
pub(super) fn read(
    path: &Path,
    replace_all: bool,
    host: &Host,
) -> Result<Option<(Meta, String)>, Failure> {
    let read = match host.root.read_with_meta(path, MAX_FILE_BYTES) {
        // Otherwise the owner could prevent the removal of a key for as long as he likes.
        Err(RootError::Leased { .. } | RootError::TooLarge { .. }) if replace_all => {
            let meta = host.root.meta(path)?;
            meta.map(|meta| (meta, Vec::new()))
        }
        read => read?,
    };
    let Some((meta, body)) = read else {
        return Ok(None);
    };
    let in_the_way = |kind: &str| {
        Failure::new(format!("{} is {kind}", path.display()))
            .hint("check it by hand: trueup does not replace a file that may contain keys to keep")
    };
    match (meta.kind, String::from_utf8(body)) {
        (FileKind::Directory, _) => Err(in_the_way("a directory")),
        (FileKind::File, Ok(text)) => Ok(Some((meta, text))),
        (_, text) if replace_all => Ok(Some((meta, text.unwrap_or_default()))),
        (FileKind::File, Err(_)) => Err(in_the_way("no text")),
        (kind, _) => Err(in_the_way(kind.describe())),
    }
}
