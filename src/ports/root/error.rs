//! Why something could not be done to a path of the host, and what to do about it.

use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::geteuid;

use super::Exposure;

/// Why a path of the host could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    #[error("cannot {verb} {path}: {source}")]
    Io {
        verb: &'static str,
        path: PathBuf,
        source: Errno,
    },
    /// Somebody who is not root could have put this link here to redirect a write.
    #[error(
        "refused to {verb} {path}: {link} is a symbolic link (owner uid {owner}) in a folder that others than root can write to"
    )]
    UntrustedLink {
        verb: &'static str,
        path: PathBuf,
        link: PathBuf,
        owner: u32,
    },
    #[error("{path} is not a usable path: {why}")]
    InvalidPath { path: PathBuf, why: &'static str },
    /// A folder that was to be ours alone.
    #[error("{path} cannot be used: {why}")]
    NotPrivate { path: PathBuf, why: String },
    #[error("{path} is larger than {limit} bytes")]
    TooLarge { path: PathBuf, limit: usize },
    /// Whoever put it there would decide how long opening it takes, and what comes of it.
    #[error("cannot {verb} {path}: it is no plain file of its own")]
    NotRegularFile { verb: &'static str, path: PathBuf },
    /// Opening it would wait for another process.
    #[error("cannot {verb} {path}: another process holds a lease on it")]
    Leased { verb: &'static str, path: PathBuf },
    /// Work on a tree stops where another mount begins.
    #[error("cannot {verb} {path}: something is mounted there")]
    Mounted { verb: &'static str, path: PathBuf },
    /// Somebody moved a folder of a tree while it was worked on.
    #[error("cannot {verb} {path}: somebody moved it at the same time")]
    MovedMeanwhile { verb: &'static str, path: PathBuf },
    /// What root could do to it, its owner did not ask for: somebody who can write in the folder that it
    /// is in may have put it there.
    #[error(
        "cannot {verb} {path}: it belongs to the user with the id {owner}, in a folder of somebody else"
    )]
    ForeignOwner {
        verb: &'static str,
        path: PathBuf,
        owner: u32,
    },
    /// A removal took too long, or others never cease to fill what is removed.
    #[error("cannot remove {path}: it is not gone after {} s", limit.as_secs())]
    RemoveTimedOut { path: PathBuf, limit: Duration },
    #[error("{path} holds more than {limit} {what}")]
    LimitExceeded {
        path: PathBuf,
        limit: usize,
        what: &'static str,
    },
    /// What decides what root does could have been written by somebody else.
    #[error("{path} is not obeyed: {part} {exposure}")]
    Untrusted {
        path: PathBuf,
        /// The file, or a folder on the way to it.
        part: PathBuf,
        exposure: Exposure,
    },
}

impl RootError {
    /// What the kernel's word means, where it has a meaning of its own here.
    pub(super) fn from_errno(verb: &'static str, path: PathBuf, source: Errno) -> RootError {
        match source {
            Errno::EXDEV | Errno::EBUSY => RootError::Mounted { verb, path },
            Errno::ESTALE => RootError::MovedMeanwhile { verb, path },
            Errno::EAGAIN => RootError::Leased { verb, path },
            source => RootError::Io { verb, path, source },
        }
    }

    /// Whether the disk (or a quota) is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(
            self,
            RootError::Io {
                source: Errno::ENOSPC | Errno::EDQUOT,
                ..
            }
        )
    }

    /// Whether the user who runs trueup may not do it.
    pub fn is_permission_denied(&self) -> bool {
        matches!(
            self,
            RootError::Io {
                source: Errno::EACCES | Errno::EPERM,
                ..
            }
        )
    }

    /// Whether trueup does not go there, because who leads it there may not be able to.
    pub fn is_out_of_bounds(&self) -> bool {
        matches!(
            self,
            RootError::ForeignOwner { .. } | RootError::Mounted { .. }
        )
    }

    /// Whether something that is no folder is on the way: a link that others than root can have
    /// put there, or a file.
    pub fn is_not_a_folder_on_path(&self) -> bool {
        matches!(
            self,
            RootError::UntrustedLink { .. }
                | RootError::Io {
                    source: Errno::ENOTDIR,
                    ..
                }
        )
    }

    /// Whether a folder was not removed because something is in it.
    pub fn is_not_empty(&self) -> bool {
        matches!(
            self,
            RootError::Io {
                source: Errno::ENOTEMPTY | Errno::EEXIST,
                ..
            }
        )
    }

    /// Whether a link could not be made because of what it was to point to: nothing, too much, or a
    /// NUL.
    pub fn is_invalid_link_target(&self) -> bool {
        matches!(
            self,
            RootError::Io {
                verb: "link",
                source: Errno::ENOENT | Errno::ENAMETOOLONG | Errno::EINVAL,
                ..
            }
        )
    }

    /// What to do next, where that can be told.
    pub fn hint(&self) -> Option<String> {
        match self {
            error if error.is_disk_full() => {
                Some("free space on that filesystem; the next pass goes on from here".into())
            }
            RootError::Untrusted { part, exposure, .. } => {
                Some(exposure.remedy(part, geteuid().as_raw()))
            }
            RootError::Io {
                verb: "remove" | "rename" | "write" | "link" | "change",
                path,
                source: Errno::EPERM,
            } if geteuid().is_root() => Some(format!(
                "it, or the folder that holds it, is immutable or append-only: `lsattr -d {0}` shows it, `chattr -i -a {0}` ends it",
                path.display()
            )),
            RootError::Mounted { path, .. } => Some(format!(
                "`findmnt -R {0}` shows what; `umount {0}` if it is not meant. trueup never works across a mount",
                path.display()
            )),
            RootError::NotRegularFile { path, .. } => Some(format!(
                "`ls -l {0}` shows what it is; move it away if it is not meant",
                path.display()
            )),
            RootError::RemoveTimedOut { path, .. } => Some(format!(
                "there is very much in it, which the next pass goes on with, or somebody goes on writing there: `fuser -v {0}` shows processes in it",
                path.display()
            )),
            RootError::Leased { path, .. } => Some(format!(
                "`lslocks` and `fuser {}` show which; end it if it is not meant",
                path.display()
            )),
            RootError::ForeignOwner { path, .. } => Some(format!(
                "`ls -la {0}` shows what it is: move it elsewhere, or give it to the owner of the folder that it is in (`chown`) if he is to have it",
                path.display()
            )),
            error if error.is_permission_denied() => {
                Some("the user who runs trueup may not do this; root may".into())
            }
            RootError::NotPrivate { .. } => Some(
                "name a new folder, below folders in which only root and whoever runs trueup can write".into(),
            ),
            _ => None,
        }
    }
}
