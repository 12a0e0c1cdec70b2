//! Validates and installs the deploy key: it reaches its final place only after all checks passed.

use std::path::Path;

use crate::cli::error;
use crate::ports::root::{Attrs, Root};
use crate::problem::Problem;

/// Path of the deploy key on the host.
pub(super) const DEPLOY_KEY: &str = "/etc/trueup/deploy_key";

/// Path of the key until all checks have passed.
pub(super) const STAGED_DEPLOY_KEY: &str = "/etc/trueup/deploy_key.new";

/// Maximum size of a private key, in bytes.
const MAX_KEY_BYTES: usize = 64 << 10;

/// Reads the key with the permissions of the calling user.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, error::CliError> {
    let path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let wrong = |why: &str| {
        Err(error::CliError::Usage(
            Problem::new(format!("--deploy-key: {why} {}", path.display()))
                .hint("the private half, as `ssh-keygen -t ed25519 -N '' -f FILE` makes it"),
        ))
    };
    match Root::real()?.read(&path, MAX_KEY_BYTES)? {
        None => wrong("there is no file"),
        Some(key) if !String::from_utf8_lossy(&key).contains("PRIVATE KEY-----") => {
            wrong("there is no private key in")
        }
        Some(key) => Ok(key),
    }
}

/// Installs a private key that only root can read.
pub(super) fn install(root: &Root, path: &str, key: &[u8]) -> Result<(), error::CliError> {
    root.create_dir_all(Path::new("/etc/trueup"), &Attrs::mode(0o755))?;
    root.write_atomic(Path::new(path), key, &Attrs::mode(0o600))?;
    Ok(())
}
