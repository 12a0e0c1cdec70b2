//! Fetches from a repository on this host.
//!
//! Another user who owns it can put anything into it: a pipe in place of a file, which would block a reader,
//! or a link to what only root may read. So root opens none of it: `git` serves it as the owner, with the
//! same protocol and deadlines as a server behind `ssh`.
//!
//! A repository that only root can change is read by libgit2's own local transport, within the process: no
//! other user decides about any byte of it. Hosts (and `trueup demo`) need no `git` for it, unless a ref is
//! malformed, which libgit2 refuses: then `git` serves it as root.

use std::path::PathBuf;

use crate::desired::Repo;
use crate::ports::exec::{Command, Identity};
use crate::ports::root::{Ownership, Root};
use crate::release::deployment::Deployment;
use crate::resource::Failure;

/// Placeholder where libgit2 requires an address that selects the process transport.
pub(super) const PLACEHOLDER_URL: &str = "ssh://localhost/repository";

/// The command that serves the repository as its owner; `None`: libgit2 may read it directly.
pub(super) fn command_as_owner(deployment: &Deployment<'_>) -> Result<Option<Command>, Failure> {
    let repo = &deployment.spec.repo;
    let Some(path) = repo
        .local_path()
        .filter(|_| deployment.host.root.is_privileged())
    else {
        return Ok(None);
    };
    // Not below `--root`: the addresses of repositories are taken as written.
    let (uid, gid) = match Root::real()?.ownership(&path)? {
        None | Some(Ownership::Ours) => return Ok(None),
        Some(Ownership::User { uid, gid }) => (uid, gid),
        Some(Ownership::Shared) => deployment.owner.uid.filter(|uid| *uid != 0).zip(deployment.owner.gid).ok_or_else(|| {
            Failure::new(format!(
                "cannot fetch {repo}: users other than root can write to it, so root does not read it"
            ))
            .hint(format!(
                "`chmod -R go-w {0}`, or give it to one user (`chown -R USER {0}`), who then reads it",
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

/// The command that serves root's own repository as root: `git` serves what makes libgit2 fail.
pub(super) fn command_as_root(repo: &Repo) -> Option<Command> {
    repo.local_path().map(upload_pack_command)
}

fn upload_pack_command(path: PathBuf) -> Command {
    let mut command = Command::new(["git", "-c", "safe.directory=*", "upload-pack"]);
    command.argv.push(path.into());
    command.env.insert("LC_ALL".into(), "C".into());
    command
}
