//! The operator's own key.

use std::path::{Path, PathBuf};

use crate::cli::args::IdentityArgs;
use crate::operate::CommandError;
use crate::ports::prompt;
use crate::ports::root::Root;
use crate::problem::Problem;
use crate::secrets::{Identity, ParsedIdentity, Recipient, parse_identity};

/// Maximum size of a private key, in bytes.
const MAX_KEY_FILE: usize = 64 << 10;

/// Where ssh has the keys of a user, below the home folder.
const DEFAULT_KEYS: [&str; 2] = [".ssh/id_ed25519", ".ssh/id_rsa"];

/// The operator's key, which may have a passphrase.
pub(super) struct OperatorKey {
    path: PathBuf,
    parsed: ParsedIdentity,
}

impl OperatorKey {
    /// Reads the key that the options name, or the first default one. `None`: there is no default one.
    pub(super) fn find(args: &IdentityArgs) -> Result<Option<OperatorKey>, CommandError> {
        if let Some(path) = &args.identity {
            let key = OperatorKey::read(path)?;
            return key.map(Some).ok_or_else(|| {
                let why = format!("--identity: {} does not exist", path.display());
                CommandError::Usage(Problem::new(why))
            });
        }
        for path in default_paths() {
            if let Some(key) = OperatorKey::read(&path)? {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// The same for a command that has to decrypt.
    pub(super) fn require(args: &IdentityArgs) -> Result<OperatorKey, CommandError> {
        OperatorKey::find(args)?.ok_or_else(|| {
            let problem = Problem::new("there is no key of yours to decrypt the secrets with");
            CommandError::Usage(problem.hint(format!(
                "name it with --identity FILE; looked for ~/{}",
                DEFAULT_KEYS.join(" and ~/")
            )))
        })
    }

    fn read(path: &Path) -> Result<Option<OperatorKey>, CommandError> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let read = Root::real()?.read_trusted(&path, MAX_KEY_FILE, None)?;
        let Some((meta, body)) = read else {
            return Ok(None);
        };
        let shown = path.display();
        // As ssh does.
        if meta.mode & 0o077 != 0 {
            let why = format!(
                "the key {shown} is accessible to other users (mode {:04o})",
                meta.mode
            );
            let problem = Problem::new(why).hint(format!("`chmod 600 {shown}`"));
            return Err(CommandError::Failed(problem));
        }
        let unusable = |why: String| {
            let problem = Problem::new(format!("the key {shown} cannot be used: {why}"));
            CommandError::Usage(problem.hint("name another one with --identity FILE"))
        };
        let text = String::from_utf8(body).map_err(|_| unusable("it is no text".into()))?;
        let parsed = parse_identity(&text).map_err(|error| unusable(error.to_string()))?;
        Ok(Some(OperatorKey { path, parsed }))
    }

    /// The public key.
    pub(super) fn recipient(&self) -> Option<Recipient> {
        match &self.parsed {
            ParsedIdentity::Ready(keys) => keys.first()?.recipient(),
            ParsedIdentity::Locked(key) => key.recipient(),
        }
    }

    /// The private keys. Asks for the passphrase, if there is one.
    pub(super) fn unlock(self) -> Result<Vec<Identity>, CommandError> {
        let locked = match self.parsed {
            ParsedIdentity::Ready(keys) => return Ok(keys),
            ParsedIdentity::Locked(locked) => locked,
        };
        let shown = self.path.display();
        let passphrase = prompt::read_hidden_line(&format!("passphrase of {shown}: "));
        let passphrase = passphrase.map_err(|error| {
            let problem = Problem::new(format!("the key {shown} has a passphrase: {error}"));
            CommandError::Usage(problem.hint("run it at a terminal, or use an age key"))
        })?;
        let key = locked.unlock(passphrase);
        let key = key.ok_or_else(|| {
            CommandError::failed(format!("the passphrase of {shown} is another one"))
        })?;
        Ok(vec![key])
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "cli reads the environment and passes values on"
)]
fn default_paths() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let home = home.filter(|home| home.is_absolute());
    let paths = home
        .iter()
        .flat_map(|home| DEFAULT_KEYS.map(|key| home.join(key)));
    paths.collect()
}
