//! The file of keys and its folder: where they are, what they are, whose they are.

use std::path::{Path, PathBuf};

use crate::ports::Host;
use crate::ports::accounts::User;
use crate::ports::root::{Attrs, FileKind, Meta, RootError};
use crate::resource::{Failure, FieldChange, Mode};

/// No file of keys is larger, in bytes.
const MAX_FILE_BYTES: usize = 1 << 20;

/// A file or folder as it is.
pub(super) struct ObservedPath {
    pub(super) kind: FileKind,
    pub(super) mode: Mode,
    /// As `user:group`; in an unprivileged run as it should be, because it is not ours to set.
    pub(super) owner: String,
}

impl ObservedPath {
    pub(super) fn from_meta(
        meta: &Meta,
        wanted: &User,
        host: &Host,
    ) -> Result<ObservedPath, Failure> {
        let ours = host.root.is_privileged();
        Ok(ObservedPath {
            kind: meta.kind,
            mode: Mode(meta.mode),
            owner: if ours {
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

/// The folder and the file.
pub(super) fn paths(user: &User) -> (PathBuf, PathBuf) {
    let folder = user.home.join(".ssh");
    let file = folder.join("authorized_keys");
    (folder, file)
}

/// What to set; no owner in an unprivileged run.
pub(super) fn attrs(user: &User, mode: u32, host: &Host) -> Attrs {
    let ours = host.root.is_privileged();
    Attrs {
        mode: Some(mode),
        uid: ours.then_some(user.uid),
        gid: ours.then_some(user.gid),
    }
}

/// What the file is and holds. `None`: there is none. Something that cannot be read as a file of
/// keys counts as an empty one where nothing in it is to be kept, and fails elsewhere.
pub(super) fn read(
    path: &Path,
    replace_all: bool,
    host: &Host,
) -> Result<Option<(Meta, String)>, Failure> {
    let read = match host.root.read_with_meta(path, MAX_FILE_BYTES) {
        // Or its owner could keep us from taking a key away for as long as he likes.
        Err(RootError::Leased { .. } | RootError::TooLarge { .. }) if replace_all => {
            let meta = host.root.meta(path)?;
            meta.map(|meta| (meta, Vec::new()))
        }
        read => read?,
    };
    let Some((meta, body)) = read else {
        return Ok(None);
    };
    let in_the_way = |what: &str| {
        Failure::new(format!("{} is {what}", path.display()))
            .hint("look at it by hand: trueup does not replace what may hold keys that should stay")
    };
    match (meta.kind, String::from_utf8(body)) {
        (FileKind::Directory, _) => Err(in_the_way("a directory")),
        (FileKind::File, Ok(text)) => Ok(Some((meta, text))),
        (_, text) if replace_all => Ok(Some((meta, text.unwrap_or_default()))),
        (FileKind::File, Err(_)) => Err(in_the_way("no text")),
        (kind, _) => Err(in_the_way(kind.describe())),
    }
}
