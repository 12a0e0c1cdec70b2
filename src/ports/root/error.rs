//! Errors of operations on a path of the host, with hints for the operator.

use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::geteuid;

use super::exposure::Exposure;
use super::file_flag::FileFlag;

/// Reason why a path of the host could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootError {
    #[error("cannot {verb} {path}: {errno}")]
    Io {
        verb: &'static str,
        path: PathBuf,
        errno: Errno,
    },
    /// A user other than root could have planted this link to redirect a write.
    #[error(
        "refused to {verb} {path}: {link} is a symbolic link {}",
        untrusted_link_reason(*.owner, *.in_exposed_folder)
    )]
    UntrustedLink {
        verb: &'static str,
        path: PathBuf,
        link: PathBuf,
        owner: u32,
        /// Whether users other than root can write to its folder, or only the link is theirs.
        in_exposed_folder: bool,
    },
    /// A user who can write to its folder may have given another file this name.
    #[error(
        "refused to {verb} {path}: the file has {names} names (hard links), and users other than root can write to this folder"
    )]
    HardLinked {
        verb: &'static str,
        path: PathBuf,
        names: u64,
    },
    #[error("{path} is not a valid path: {why}")]
    InvalidPath { path: PathBuf, why: &'static str },
    /// A folder that must belong only to trueup's user.
    #[error("cannot use {path}: {why}")]
    NotPrivate { path: PathBuf, why: String },
    #[error("{path} is larger than {limit} bytes")]
    TooLarge { path: PathBuf, limit: usize },
    /// A user who planted it could decide how long opening it takes and what effect that has.
    #[error("cannot {verb} {path}: it is not a regular file with a single name")]
    NotRegularFile { verb: &'static str, path: PathBuf },
    /// Opening it would wait for the process that holds the lease.
    #[error("cannot {verb} {path}: another process holds a lease on it")]
    Leased { verb: &'static str, path: PathBuf },
    /// Operations on a tree stop at mount points.
    #[error("cannot {verb} {path}: something is mounted there")]
    Mounted { verb: &'static str, path: PathBuf },
    /// Root needs `chattr` before it can change the file, or anything in the folder.
    #[error("cannot {verb} {path}: {part} is {flag} (`chattr +{}`)", flag.letter())]
    Flagged {
        verb: &'static str,
        path: PathBuf,
        /// The path, or its folder.
        part: PathBuf,
        flag: FileFlag,
    },
    /// Another process moved a folder of the tree during the operation.
    #[error("cannot {verb} {path}: another process moved it at the same time")]
    MovedMeanwhile { verb: &'static str, path: PathBuf },
    /// Root could do it, but its owner did not ask for it: a user who can write in its folder may have put it
    /// there.
    #[error(
        "cannot {verb} {path}: it belongs to uid {owner}, but its folder belongs to another user"
    )]
    ForeignOwner {
        verb: &'static str,
        path: PathBuf,
        owner: u32,
    },
    /// The removal timed out, or other processes keep adding files to the tree.
    #[error("cannot remove {path}: the removal did not finish within {} s", limit.as_secs())]
    RemoveTimedOut { path: PathBuf, limit: Duration },
    #[error("{path} holds more than {limit} {unit}")]
    LimitExceeded {
        path: PathBuf,
        limit: usize,
        unit: &'static str,
    },
    /// A user other than root could have written a file that decides what root does.
    #[error("{path} is not trusted: {part} {exposure}")]
    Untrusted {
        path: PathBuf,
        /// The file, or a folder on the way to it.
        part: PathBuf,
        exposure: Exposure,
    },
}

fn untrusted_link_reason(owner: u32, in_exposed_folder: bool) -> String {
    match in_exposed_folder {
        true => format!("(owner uid {owner}) in a folder that users other than root can write to"),
        false => format!("that belongs to uid {owner} and not to root"),
    }
}

impl RootError {
    /// Maps an errno to the error that it stands for in this module.
    pub(super) fn from_errno(verb: &'static str, path: PathBuf, errno: Errno) -> RootError {
        match errno {
            Errno::EXDEV | Errno::EBUSY => RootError::Mounted { verb, path },
            Errno::ESTALE => RootError::MovedMeanwhile { verb, path },
            Errno::EAGAIN => RootError::Leased { verb, path },
            errno => RootError::Io { verb, path, errno },
        }
    }

    /// Whether the disk (or a quota) is full.
    pub(crate) fn is_disk_full(&self) -> bool {
        matches!(
            self,
            RootError::Io {
                errno: Errno::ENOSPC | Errno::EDQUOT,
                ..
            }
        )
    }

    /// Whether the user who runs trueup lacks the permission that root has. Root itself meets these errors
    /// too: an immutable file, a network filesystem.
    pub(crate) fn is_permission_denied(&self) -> bool {
        let is_denied = matches!(
            self,
            RootError::Io {
                errno: Errno::EACCES | Errno::EPERM,
                ..
            }
        );
        is_denied && !geteuid().is_root()
    }

    /// Whether trueup refuses the path, because a user without access to it may have redirected trueup there.
    pub(crate) fn is_out_of_bounds(&self) -> bool {
        matches!(
            self,
            RootError::ForeignOwner { .. } | RootError::Mounted { .. }
        )
    }

    /// Whether a non-folder is on the path: a file, or a link that a user other than root may have planted.
    pub(crate) fn is_not_a_folder_on_path(&self) -> bool {
        matches!(
            self,
            RootError::UntrustedLink { .. }
                | RootError::Io {
                    errno: Errno::ENOTDIR,
                    ..
                }
        )
    }

    /// Whether a folder was not removed because it is not empty.
    pub(crate) fn is_not_empty(&self) -> bool {
        matches!(
            self,
            RootError::Io {
                errno: Errno::ENOTEMPTY | Errno::EEXIST,
                ..
            }
        )
    }

    /// Whether a link could not be created because its target is empty, too long or contains a NUL.
    pub(crate) fn is_invalid_link_target(&self) -> bool {
        matches!(
            self,
            RootError::Io {
                verb: "link",
                errno: Errno::ENOENT | Errno::ENAMETOOLONG | Errno::EINVAL,
                ..
            }
        )
    }

    /// The operator's next step, where one is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            error if error.is_disk_full() => {
                Some("free space on that filesystem; the next pass continues from here".into())
            }
            RootError::Untrusted { part, exposure, .. } => {
                Some(exposure.remedy(part, geteuid().as_raw()))
            }
            RootError::Io {
                verb: "remove" | "rename" | "write" | "link" | "change",
                path,
                errno: Errno::EPERM,
            } if geteuid().is_root() => Some(format!(
                "it, or its folder, is immutable or append-only: `lsattr -d {0}` shows the flag, `chattr -i -a {0}` clears it",
                path.display()
            )),
            RootError::Io { path, errno: Errno::ENOTDIR, .. } => Some(format!(
                "`namei -l {}` shows each part of the path: one is a file, or a link, where a folder is expected",
                path.display()
            )),
            RootError::Io { path, errno: Errno::EROFS, .. } => Some(format!(
                "`findmnt -T {0}` shows the read-only mount; the kernel also makes a failing disk read-only: `dmesg | grep -i remount`. Make it writable (`mount -o remount,rw …`), or describe {0} elsewhere",
                path.display()
            )),
            RootError::Flagged { part, flag, .. } => Some(format!(
                "`lsattr -d {0}` shows the flag, which an administrator set; `chattr -{1} {0}` clears it, and the next pass continues",
                part.display(),
                flag.letter()
            )),
            RootError::Mounted { verb: "write" | "link" | "change", path } => Some(format!(
                "`findmnt {0}` shows the mount; a container runtime mounts files like /etc/resolv.conf and /etc/hosts. Change what is mounted and leave {0} out of the roles, or `umount {0}` if the mount is unintended",
                path.display()
            )),
            RootError::Mounted { path, .. } => Some(format!(
                "`findmnt -R {0}` lists the mounts; `umount {0}` if they are unintended. trueup never works across a mount",
                path.display()
            )),
            RootError::NotRegularFile { path, .. } => Some(format!(
                "`ls -l {0}` shows its type; move it away if it is unintended",
                path.display()
            )),
            RootError::HardLinked { path, .. } => Some(format!(
                "`find / -xdev -samefile {0}` lists its names; if they are intended, replace {0} with a copy: `cp -p {0} {0}.copy && mv {0}.copy {0}`",
                path.display()
            )),
            RootError::RemoveTimedOut { path, .. } => Some(format!(
                "it contains very many files (the next pass continues), or a process keeps writing there: `fuser -v {0}` lists the processes",
                path.display()
            )),
            RootError::Leased { path, .. } => Some(format!(
                "`lslocks` and `fuser {}` show the process; stop it if it is unintended",
                path.display()
            )),
            RootError::ForeignOwner { path, .. } => Some(format!(
                "`ls -la {0}` shows the owners: move it elsewhere, or `chown` it to the owner of its folder",
                path.display()
            )),
            error if error.is_permission_denied() => {
                Some("the user who runs trueup lacks the permission; run it as root".into())
            }
            RootError::NotPrivate { .. } => Some(
                "name a new folder whose parent folders only root and the user who runs trueup can write to".into(),
            ),
            _ => None,
        }
    }
}
