//! The public keys that secrets are encrypted to.

use std::str::FromStr;

use age::ssh::ParseRecipientKeyError;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest, Sha256};

use crate::printable;
use crate::problem::Problem;

/// Longest line of a recipient, in bytes: an RSA key of 16384 bits with a comment.
const MAX_LINE_BYTES: usize = 4096;

/// A public key, and whose it is.
#[derive(Clone)]
pub(crate) struct Recipient {
    key: Key,
    /// As written, without the comment.
    text: String,
    /// The name of the host or operator; may be empty.
    pub comment: String,
}

#[derive(Clone)]
enum Key {
    Age(age::x25519::Recipient),
    Ssh(age::ssh::Recipient),
}

impl Recipient {
    /// Parses `age1…` or a line of an ssh public key, each with an optional comment.
    pub(crate) fn parse(line: &str) -> Result<Recipient, Problem> {
        // Whoever pastes the wrong line must not find a private key in a log.
        let kind = line.split_whitespace().next().unwrap_or_default();
        let is_public = ["ssh-", "age1", "ecdsa-", "sk-"];
        let shown = match is_public.iter().any(|prefix| kind.starts_with(prefix)) {
            true => format!(
                "`{}`",
                printable::line(&line.chars().take(60).collect::<String>())
            ),
            false => "this".to_owned(),
        };
        let invalid = |why: &str| {
            Problem::new(format!("{shown} is no recipient: {why}")).hint(
                "expected `ssh-ed25519 …` or `ssh-rsa …` as in a host's /etc/ssh/ssh_host_ed25519_key.pub, or `age1…`, and a name after it",
            )
        };
        if line.len() > MAX_LINE_BYTES || line.contains(char::is_control) {
            return Err(invalid("it is too long, or has control characters"));
        }
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        let (key, text) = if first.starts_with("age1") {
            let key = age::x25519::Recipient::from_str(first);
            let key = key.map_err(|_| invalid("only age keys of the kind X25519 are supported"))?;
            (Key::Age(key), first.to_owned())
        } else {
            let text = format!("{first} {}", words.next().unwrap_or_default());
            let key = age::ssh::Recipient::from_str(&text).map_err(|error| match error {
                ParseRecipientKeyError::RsaModulusTooSmall => invalid("an RSA key needs 2048 bits"),
                ParseRecipientKeyError::RsaModulusTooLarge => invalid("the RSA key is too large"),
                ParseRecipientKeyError::Unsupported(_) => {
                    invalid("only ssh keys of the kinds ed25519 and rsa can encrypt")
                }
                _ => invalid("it is neither an age key nor an ssh public key"),
            })?;
            // Normalized: the same key is the same text.
            let text = key.to_string();
            (Key::Ssh(key), text)
        };
        let comment = words.collect::<Vec<_>>().join(" ");
        Ok(Recipient { key, text, comment })
    }

    pub(super) fn key(&self) -> &dyn age::Recipient {
        match &self.key {
            Key::Age(key) => key,
            Key::Ssh(key) => key,
        }
    }

    pub(super) fn of_age_key(key: age::x25519::Recipient) -> Recipient {
        let text = key.to_string();
        Recipient {
            key: Key::Age(key),
            text,
            comment: String::new(),
        }
    }

    pub(super) fn of_ssh_key(key: age::ssh::Recipient) -> Recipient {
        let text = key.to_string();
        Recipient {
            key: Key::Ssh(key),
            text,
            comment: String::new(),
        }
    }

    /// The same key with another comment.
    pub(crate) fn named(mut self, comment: &str) -> Recipient {
        self.comment = comment.split_whitespace().collect::<Vec<_>>().join(" ");
        self
    }

    /// The line as in the manifest.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.text, self.comment)
            .trim_end()
            .to_owned()
    }

    /// What identifies the key to people: as `ssh-keygen -l` shows it, `SHA256:…`; of an age key, the key itself.
    pub(crate) fn fingerprint(&self) -> String {
        let blob = self.text.split_once(' ').map(|(_, blob)| blob);
        match blob.and_then(|blob| STANDARD.decode(blob).ok()) {
            Some(blob) => format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(blob))),
            None => self.text.clone(),
        }
    }
}

impl PartialEq for Recipient {
    /// Whether it is the same key, whatever it is called.
    fn eq(&self, other: &Recipient) -> bool {
        self.text == other.text
    }
}

impl Eq for Recipient {}

impl std::fmt::Debug for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.line())
    }
}
