//! The deploy key: looked at before it is copied, and copied to its place only once all is well.

use std::path::Path;

use crate::cli::error;
use crate::ports::root::{Attrs, Root};
use crate::problem::Problem;

/// Where the deploy key is put, on the host.
pub(super) const DEPLOY_KEY: &str = "/etc/trueup/deploy_key";

/// Where it is until everything was looked at.
pub(super) const STAGED_DEPLOY_KEY: &str = "/etc/trueup/deploy_key.new";

/// No private key is longer, in bytes.
const MAX_KEY_BYTES: usize = 64 << 10;

/// The key, as whoever runs this may read it.
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

/// Puts a private key there, for nobody but root.
pub(super) fn install(root: &Root, path: &str, key: &[u8]) -> Result<(), error::CliError> {
    root.create_dir_all(Path::new("/etc/trueup"), &Attrs::mode(0o755))?;
    root.write_atomic(Path::new(path), key, &Attrs::mode(0o600))?;
    Ok(())
}
