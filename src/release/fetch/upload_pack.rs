//! A repository on this host that belongs to somebody else.
//!
//! Its owner may put anything into it: a pipe in the place of a file, which would stop whoever opens
//! it, or a link to what only root may read. So root opens none of it: `git` reads it as the one whose
//! it is, and is talked to like a server behind `ssh`, with the same deadlines.

use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;

use crate::ports::exec::{Command, Identity};
use crate::ports::root::{Ownership, Root};
use crate::release::Deployment;
use crate::resource::Failure;

/// Stands for the repository where libgit2 wants an address of the transport that is a child.
pub(super) const PLACEHOLDER_URL: &str = "ssh://localhost/repository";

/// The command that serves the repository as whose it is; `None`: libgit2 may read it itself.
pub(super) fn command_as_owner(d: &Deployment<'_>) -> Result<Option<Command>, Failure> {
    let repo = &d.spec.repo;
    let Some(path) = local_path(repo.url()).filter(|_| d.host.root.is_privileged()) else {
        return Ok(None);
    };
    // Not below `--root`: addresses of repositories stay as they are written.
    let (uid, gid) = match Root::real()?.ownership(&path)? {
        None | Some(Ownership::Ours) => return Ok(None),
        Some(Ownership::User { uid, gid }) => (uid, gid),
        Some(Ownership::Shared) => d.owner.uid.filter(|uid| *uid != 0).zip(d.owner.gid).ok_or_else(|| {
            Failure::new(format!(
                "cannot fetch {repo}: others than root can write to it, so root does not read it"
            ))
            .hint(format!(
                "`chmod -R go-w {0}`, or give it to one user (`chown -R USER {0}`), as whom it is read then",
                path.display()
            ))
        })?,
    };
    let mut command = upload_pack_command(path);
    command.identity = Some(Identity {
        name: uid.to_string(),
        uid,
        gid,
        groups: vec![gid],
        home: "/".into(),
        shell: "/bin/sh".into(),
    });
    Ok(Some(command))
}

/// The command that serves a repository of root's as root: what libgit2 would stumble over in it, `git`
/// hands out.
pub(super) fn command_as_root(url: &str) -> Option<Command> {
    local_path(url).map(upload_pack_command)
}

fn upload_pack_command(path: PathBuf) -> Command {
    let mut command = Command::new(["git", "-c", "safe.directory=*", "upload-pack"]);
    command.argv.push(path.into());
    command.env.insert("LC_ALL".into(), "C".into());
    command
}

/// The folder behind an address without a host.
fn local_path(url: &str) -> Option<PathBuf> {
    let path = match url.strip_prefix("file://") {
        Some(rest) => percent_decode_str(rest).decode_utf8().ok()?.into_owned(),
        None => url.to_owned(),
    };
    path.starts_with('/')
        .then(|| Path::new(&path).components().collect())
}
