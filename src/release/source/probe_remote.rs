//! Probes whether an app's git server accepts this host, without fetching anything: before there is a
//! release, a mirror or even the user that will own them.

use std::cell::RefCell;

use super::fetch::{self, Fetcher};
use crate::ports::Host;
use crate::release::app::spec::ReleaseSpec;
use crate::release::deployment::{Deployment, Owner, null_sha};
use crate::resource::Failure;

/// Counts the branches, tags and other refs on the server. `known_hosts` are lines to trust in addition to
/// those on the host.
pub(crate) fn count_remote_refs(
    spec: &ReleaseSpec,
    host: &Host,
    known_hosts: &[String],
) -> Result<usize, Failure> {
    fetch::configure_libgit2()?;
    let deployment = probe_deployment(spec, host);
    Fetcher::with_known_hosts(&deployment, known_hosts)?.count_refs()
}

/// The `known_hosts` line of the key that the server presents, which may be anybody's until a person has
/// compared it. `None`: it is not reached by ssh, or its key is known already.
pub(crate) fn unknown_host_key(
    spec: &ReleaseSpec,
    host: &Host,
    known_hosts: &[String],
) -> Result<Option<String>, Failure> {
    fetch::configure_libgit2()?;
    let deployment = probe_deployment(spec, host);
    Fetcher::with_known_hosts(&deployment, known_hosts)?.unknown_host_key()
}

/// A deployment that needs nothing that a first pass creates.
fn probe_deployment<'a>(spec: &'a ReleaseSpec, host: &'a Host) -> Deployment<'a> {
    Deployment {
        spec,
        sha: spec.wanted.clone().unwrap_or_else(null_sha),
        host,
        owner: Owner {
            uid: None,
            gid: None,
        },
        layout: spec.layout(),
        previous: None,
        private: None,
        subdirs: RefCell::default(),
        started: host.clock.monotonic_now(),
        build_deadline: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::testing::Sandbox;

    fn spec(repo: &str) -> ReleaseSpec {
        let spec = serde_json::json!({"app": "shop", "repo": repo, "user": "nobody-yet"});
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn remote_refs_are_counted_before_the_app_user_exists() {
        let sandbox = Sandbox::empty();
        let folder = tempfile::tempdir().unwrap();
        let repo = git2::Repository::init_bare(folder.path()).unwrap();
        let tree = repo.treebuilder(None).unwrap().write().unwrap();
        let author = git2::Signature::now("Ana", "ana@shop.invalid").unwrap();
        let tree = repo.find_tree(tree).unwrap();
        for branch in ["refs/heads/a", "refs/heads/b"] {
            repo.commit(Some(branch), &author, &author, "First", &tree, &[])
                .unwrap();
        }
        let spec = |path: &str| spec(path);
        let path = folder.path().display().to_string();
        assert_eq!(
            count_remote_refs(&spec(&path), &sandbox.host, &[]).unwrap(),
            2
        );
        let gone = count_remote_refs(&spec("/nowhere/shop.git"), &sandbox.host, &[]).unwrap_err();
        assert!(gone.message.contains("/nowhere/shop.git"), "{gone}");
        assert!(gone.hint.is_some(), "{gone}");
        let left = sandbox.host.root.list("/".as_ref()).unwrap().unwrap();
        assert!(left.is_empty(), "{left:?}");
    }
}
