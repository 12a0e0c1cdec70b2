//! The private keys that decrypt secrets.

use std::path::{Path, PathBuf};

use age::secrecy::SecretString;

use super::recipient::Recipient;
use crate::ports::root::Root;
use crate::problem::Problem;
use crate::resource::Failure;

/// Where a host's own keys are, the preferred one first.
const HOST_KEYS: [&str; 2] = ["/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_rsa_key"];

/// Maximum size of a file with a private key, in bytes.
const MAX_KEY_FILE: usize = 64 << 10;

/// Most keys in an identity file: each costs time with each recipient of a file.
const MAX_KEYS: usize = 16;

/// A private key, ready to decrypt.
pub(crate) enum Identity {
    Age(age::x25519::Identity),
    Ssh(age::ssh::Identity),
}

impl Identity {
    pub(super) fn key(&self) -> &dyn age::Identity {
        match self {
            Identity::Age(key) => key,
            Identity::Ssh(key) => key,
        }
    }

    /// The public key of this one.
    pub(crate) fn recipient(&self) -> Option<Recipient> {
        match self {
            Identity::Age(key) => Some(Recipient::of_age_key(key.to_public())),
            Identity::Ssh(key) => age::ssh::Recipient::try_from(key.clone())
                .ok()
                .map(Recipient::of_ssh_key),
        }
    }
}

/// What the text of a private key holds.
pub(crate) enum ParsedIdentity {
    Ready(Vec<Identity>),
    /// An ssh key with a passphrase.
    Locked(LockedIdentity),
}

/// An ssh key with a passphrase.
pub(crate) struct LockedIdentity {
    key: Box<age::ssh::EncryptedKey>,
}

impl LockedIdentity {
    /// The public key, which needs no passphrase.
    pub(crate) fn recipient(&self) -> Option<Recipient> {
        let key = age::ssh::Identity::Encrypted((*self.key).clone());
        age::ssh::Recipient::try_from(key)
            .ok()
            .map(Recipient::of_ssh_key)
    }

    /// The key, unless the passphrase is another one.
    pub(crate) fn unlock(&self, passphrase: String) -> Option<Identity> {
        let key = self.key.decrypt(SecretString::from(passphrase)).ok()?;
        Some(Identity::Ssh(key.into()))
    }
}

/// Why a text is no private key. No message quotes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("it holds neither an ssh private key nor an age key (`AGE-SECRET-KEY-1…`)")]
    NoKey,
    #[error("its ssh key is of a kind that cannot decrypt: only ed25519 and rsa can")]
    UnsupportedKind,
    #[error("it holds more than {MAX_KEYS} keys")]
    TooMany,
}

/// Parses an ssh private key, or a file of age keys with comments as `age-keygen` writes it.
pub(crate) fn parse_identity(text: &str) -> Result<ParsedIdentity, IdentityError> {
    if text.contains("PRIVATE KEY-----") {
        let key = age::ssh::Identity::from_buffer(text.trim_start().as_bytes(), None);
        return match key.map_err(|_| IdentityError::NoKey)? {
            key @ age::ssh::Identity::Unencrypted(_) => {
                Ok(ParsedIdentity::Ready(vec![Identity::Ssh(key)]))
            }
            age::ssh::Identity::Encrypted(key) => {
                let key = Box::new(key);
                Ok(ParsedIdentity::Locked(LockedIdentity { key }))
            }
            age::ssh::Identity::Unsupported(_) => Err(IdentityError::UnsupportedKind),
        };
    }
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut keys = Vec::new();
    for line in lines {
        if keys.len() == MAX_KEYS {
            return Err(IdentityError::TooMany);
        }
        let key = line.parse().map_err(|_| IdentityError::NoKey)?;
        keys.push(Identity::Age(key));
    }
    match keys.is_empty() {
        true => Err(IdentityError::NoKey),
        false => Ok(ParsedIdentity::Ready(keys)),
    }
}

/// The keys of this host: those in the file that its settings name, or its ssh host keys.
pub(super) fn host_identities(
    root: &Root,
    configured: Option<&Path>,
) -> Result<Vec<Identity>, Failure> {
    let paths: Vec<PathBuf> = match configured {
        Some(path) => vec![path.to_owned()],
        None => HOST_KEYS.iter().map(PathBuf::from).collect(),
    };
    let mut identities = Vec::new();
    for path in &paths {
        let strict = configured.is_some();
        if let Some(text) = read_private_key(root, path, strict)? {
            identities.extend(parse_host_key(path, &text)?);
        } else if strict {
            let why = format!(
                "the key {} of `secrets.identity` does not exist",
                path.display()
            );
            return Err(Failure::new(why)
                .hint("create it, or remove the setting: then the ssh host keys are used"));
        }
    }
    if identities.is_empty() {
        return Err(Failure::new(format!(
            "this host has no key to decrypt secrets with: neither {} exists",
            HOST_KEYS.join(" nor ")
        ))
        .hint("`ssh-keygen -A` makes the host keys; or name a key in node.yml: `secrets: {identity: FILE}`"));
    }
    Ok(identities)
}

/// The public key that secrets for this host are encrypted to, without a comment: that of the configured key, or of its
/// preferred ssh host key.
pub(crate) fn host_recipient(root: &Root, configured: Option<&Path>) -> Option<Recipient> {
    if configured.is_some() {
        let identities = host_identities(root, configured).ok()?;
        return identities.first()?.recipient();
    }
    HOST_KEYS.iter().find_map(|path| {
        let path = PathBuf::from(format!("{path}.pub"));
        let (_, body) = root.read_trusted(&path, MAX_KEY_FILE, None).ok()??;
        let key = Recipient::parse(std::str::from_utf8(&body).ok()?.trim()).ok()?;
        Some(key.named(""))
    })
}

fn parse_host_key(path: &Path, text: &str) -> Result<Vec<Identity>, Failure> {
    let shown = path.display();
    match parse_identity(text) {
        Ok(ParsedIdentity::Ready(keys)) => Ok(keys),
        Ok(ParsedIdentity::Locked(_)) => Err(Failure::new(format!(
            "the key {shown} has a passphrase"
        ))
        .hint(format!(
            "nobody is there to type it in a pass; `ssh-keygen -p -f {shown}` removes it"
        ))),
        Err(error) => Err(Failure::new(format!(
            "the key {shown} cannot be used: {error}"
        ))),
    }
}

/// Reads a private key that only root can read and change. `strict`: also no group; the host keys of some
/// distributions belong to a group of ssh's own helper.
fn read_private_key(root: &Root, path: &Path, strict: bool) -> Result<Option<String>, Failure> {
    let Some((meta, body)) = root.read_trusted(path, MAX_KEY_FILE, None)? else {
        return Ok(None);
    };
    let others = if strict { 0o077 } else { 0o007 };
    let owner = root.default_owner().0;
    if meta.uid != owner || meta.mode & others != 0 {
        let shown = path.display();
        return Err(Failure::new(format!(
            "the key {shown} is accessible to users other than root (mode {:04o})",
            meta.mode
        ))
        .hint(format!(
            "`chown root:root {shown}; chmod 600 {shown}`; whoever read it can decrypt the secrets: replace the key, and then the secrets"
        )));
    }
    String::from_utf8(body)
        .map(Some)
        .map_err(|_| Failure::new(format!("the key {} is no text", path.display())))
}

impl From<IdentityError> for Problem {
    fn from(error: IdentityError) -> Problem {
        Problem::new(error.to_string())
    }
}
