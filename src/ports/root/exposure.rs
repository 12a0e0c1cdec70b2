//! The reason why a user other than root can change a path.

use std::path::Path;

/// The reason why another user can change a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exposure {
    /// It belongs to this user.
    Owner(u32),
    /// All users may write to it, with this mode.
    Everybody(u32),
    /// This group may write to it.
    Group(u32),
    /// An access control list lets other users write to it.
    AccessList,
}

impl std::fmt::Display for Exposure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exposure::Owner(uid) => write!(f, "belongs to uid {uid}"),
            Exposure::Everybody(mode) => write!(f, "is writable by everybody (mode {mode:04o})"),
            Exposure::Group(gid) => write!(f, "is writable by gid {gid}"),
            Exposure::AccessList => {
                write!(f, "is writable by others through its access control list")
            }
        }
    }
}

impl Exposure {
    /// The command that removes the exposure, for the user who runs trueup.
    pub(super) fn remedy(self, path: &Path, user: u32) -> String {
        let path = path.display();
        match self {
            Exposure::Owner(_) => {
                format!("`chown {user} {path}`, after checking its contents")
            }
            Exposure::Everybody(_) => {
                format!("`chmod o-w {path}`, after checking its contents")
            }
            Exposure::Group(_) => {
                format!("`chmod g-w {path}`, after checking its contents")
            }
            Exposure::AccessList => {
                format!("`setfacl -b {path}`, after checking its contents")
            }
        }
    }
}
