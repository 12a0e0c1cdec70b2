//! The deploy key: it reaches its final place only after all checks passed.

use std::path::Path;

use crate::ports::root::{Attrs, Root, RootError};

/// Path of the deploy key on the host.
pub(super) const DEPLOY_KEY: &str = "/etc/trueup/deploy_key";

/// Path of the key until all checks have passed.
pub(super) const STAGED_DEPLOY_KEY: &str = "/etc/trueup/deploy_key.new";

/// A private key for git over ssh.
#[derive(Clone)]
pub(crate) struct DeployKey(Vec<u8>);

impl DeployKey {
    /// The key in this file; `None`: the file contains no private key.
    pub(crate) fn parse(body: Vec<u8>) -> Option<DeployKey> {
        String::from_utf8_lossy(&body)
            .contains("PRIVATE KEY-----")
            .then_some(DeployKey(body))
    }

    /// Installs the key so that only root can read it.
    pub(super) fn install(&self, root: &Root, path: &str) -> Result<(), RootError> {
        root.create_dir_all(Path::new("/etc/trueup"), &Attrs::mode(0o755))?;
        root.write_atomic(Path::new(path), &self.0, &Attrs::mode(0o600))
    }
}

impl std::fmt::Debug for DeployKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeployKey")
    }
}

/// Removes the key of checks that have ended or were killed.
pub(super) fn remove_staged(root: &Root) -> Result<(), RootError> {
    root.remove_file(Path::new(STAGED_DEPLOY_KEY))
}
