//! Reads the deploy key as root, for `ssh` to get in memory, and reports an unusable key before contacting
//! the server.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::ports::Host;
use crate::resource::{Failure, FailureKind};

/// Largest private key, in bytes.
const MAX_KEY: usize = 64 << 10;

/// Reads the private key at `path`, if only root and the app's `owner` could have put it there.
pub(crate) fn read(path: &Path, owner: Option<u32>, host: &Host) -> Result<String, Failure> {
    let shown = path.display();
    let found = host
        .root
        .read_trusted(path, MAX_KEY, owner)
        .map_err(|error| {
            let kind = match error.is_permission_denied() {
                true => FailureKind::PermissionDenied,
                false => FailureKind::Error,
            };
            let message = format!("cannot read the deploy key {shown}: {error}");
            let failure = Failure::of_kind(kind, message);
            match error.hint() {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        })?;
    let (_, body) = found.ok_or_else(|| {
        Failure::not_ready(format!("the deploy key {shown} does not exist"))
            .hint("create it, or describe it in a `file` with `secret: true` before this release")
    })?;
    let text = String::from_utf8_lossy(&body).into_owned();
    match KeyFormat::detect(&text) {
        // OpenSSH requires plain line ends, including the last one.
        KeyFormat::Private => Ok(text.lines().map(|line| format!("{}\n", line.trim_end())).collect()),
        KeyFormat::Encrypted => Err(Failure::new(format!(
            "the deploy key {shown} is protected by a passphrase"
        ))
        .hint("trueup cannot enter it: create a key without one (`ssh-keygen -N ''`), with read access to this repository only")),
        KeyFormat::Public => Err(Failure::new(format!(
            "the deploy key {shown} is a public key"
        ))
        .hint("use the private key: the file without `.pub`")),
        KeyFormat::Unknown => Err(Failure::new(format!(
            "the deploy key {shown} is not a private ssh key"
        ))
        .hint("expected a file of `ssh-keygen`, beginning with `-----BEGIN … PRIVATE KEY-----`: `ssh-keygen -t ed25519 -N '' -f FILE` makes one")),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum KeyFormat {
    Private,
    Encrypted,
    Public,
    Unknown,
}

impl KeyFormat {
    fn detect(text: &str) -> KeyFormat {
        let text = text.trim_start();
        if text.starts_with("ssh-") || text.starts_with("ecdsa-") {
            return KeyFormat::Public;
        }
        let mut lines = text.lines();
        let Some(kind) = lines
            .next()
            .and_then(|line| line.strip_prefix("-----BEGIN "))
        else {
            return KeyFormat::Unknown;
        };
        if kind.contains("ENCRYPTED") || text.contains("Proc-Type: 4,ENCRYPTED") {
            return KeyFormat::Encrypted;
        }
        if kind.starts_with("OPENSSH") {
            let body: String = lines.take_while(|line| !line.starts_with("--")).collect();
            return match STANDARD.decode(body.trim()) {
                // The magic string, then the cipher's name, preceded by its length.
                Ok(body) if body.starts_with(b"openssh-key-v1\0\0\0\0\x04none") => {
                    KeyFormat::Private
                }
                Ok(body) if body.starts_with(b"openssh-key-v1\0") => KeyFormat::Encrypted,
                _ => KeyFormat::Unknown,
            };
        }
        if kind.contains("PRIVATE KEY") {
            return KeyFormat::Private;
        }
        KeyFormat::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusable_deploy_keys_are_distinguished() {
        let sealed = STANDARD.encode(b"openssh-key-v1\0\0\0\0\x0aaes256-ctr\0\0\0\x06bcrypt");
        let plain = STANDARD.encode(b"openssh-key-v1\0\0\0\0\x04none\0\0\0\x04none");
        let openssh = |body: &str| {
            format!(
                "-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----\n"
            )
        };
        for (text, sort) in [
            (openssh(&sealed), KeyFormat::Encrypted),
            (openssh(&plain), KeyFormat::Private),
            (openssh("???"), KeyFormat::Unknown),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n".into(),
                KeyFormat::Encrypted,
            ),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nMII\n".into(),
                KeyFormat::Private,
            ),
            ("ssh-ed25519 AAAA deploy".into(), KeyFormat::Public),
            ("hello".into(), KeyFormat::Unknown),
        ] {
            assert_eq!(KeyFormat::detect(&text), sort, "{text}");
        }
    }
}
