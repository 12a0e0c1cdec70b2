//! Whether an app's git server lets this host in, asked without fetching anything: before there is a
//! release, a mirror or even the user that will own them.

use super::fetch::{self, Fetch};
use super::{Deployment, Owner, Spec, nobody};
use crate::ports::Host;
use crate::resource::Failure;

/// How many branches, tags and other refs the server shows. `known` are lines of `known_hosts` to
/// believe besides those that are on the host already.
pub fn reach(spec: &Spec, host: &Host, known: &[String]) -> Result<usize, Failure> {
    fetch::settle()?;
    let d = from_outside(spec, host);
    Fetch::knowing(&d, known)?.refs()
}

/// The line of `known_hosts` for the key that the server shows, which may be anybody's until a person
/// has compared it. `None`: it is not reached by ssh, or its key is known already.
pub fn unknown_server(
    spec: &Spec,
    host: &Host,
    known: &[String],
) -> Result<Option<String>, Failure> {
    fetch::settle()?;
    let d = from_outside(spec, host);
    Fetch::knowing(&d, known)?.unknown_server()
}

/// The app, without anything that a first pass makes.
fn from_outside<'a>(spec: &'a Spec, host: &'a Host) -> Deployment<'a> {
    Deployment {
        spec,
        sha: spec.wanted.clone().unwrap_or_else(nobody),
        host,
        owner: Owner {
            uid: None,
            gid: None,
        },
        layout: spec.layout(),
        previous: None,
        private: None,
        begun: host.clock.tick(),
        limit: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::testing::Sandbox;

    fn spec(repo: &str) -> Spec {
        let spec = serde_json::json!({"app": "shop", "repo": repo, "user": "nobody-yet"});
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn remote_refs_are_counted_before_the_app_user_exists() {
        let sandbox = Sandbox::empty();
        let folder = tempfile::tempdir().unwrap();
        let repo = git2::Repository::init_bare(folder.path()).unwrap();
        let tree = repo.treebuilder(None).unwrap().write().unwrap();
        let who = git2::Signature::now("Ana", "ana@shop.invalid").unwrap();
        let tree = repo.find_tree(tree).unwrap();
        for branch in ["refs/heads/a", "refs/heads/b"] {
            repo.commit(Some(branch), &who, &who, "First", &tree, &[])
                .unwrap();
        }
        let spec = |path: &str| spec(path);
        let there = folder.path().display().to_string();
        assert_eq!(reach(&spec(&there), &sandbox.host, &[]).unwrap(), 2);
        let gone = reach(&spec("/nowhere/shop.git"), &sandbox.host, &[]).unwrap_err();
        assert!(gone.message.contains("/nowhere/shop.git"), "{gone}");
        assert!(gone.hint.is_some(), "{gone}");
        let left = sandbox.host.root.list("/".as_ref()).unwrap().unwrap();
        assert!(left.is_empty(), "{left:?}");
    }
}
