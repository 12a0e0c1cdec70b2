//! The secrets that this pass knows of, and texts without them.
//!
//! Resources say what is secret ([`Kind::register_secrets`](crate::resource::Kind::register_secrets)); from then on no output of a
//! program keeps it: [`Redactor`] is between every child and what is remembered or logged of it, and every
//! [`Failure`](crate::resource::Failure) is redacted once more when it is made. For the whole process, as a
//! log is: a text that is printed by one app's step may hold the secret of another.

use std::sync::RwLock;

/// Shorter values are no secrets: without them, the rest could not be read.
const MIN_LENGTH: usize = 6;

/// Shorter values in a text that is secret as a whole are its ordinary words.
const MIN_LENGTH_IN_TEXT: usize = 8;

/// A shorter name of a user is one.
const MIN_TOKEN_LENGTH: usize = 16;

/// More is not looked for, in values: a large secret file is none of passwords.
const MAX_SECRETS: usize = 10_000;

const PLACEHOLDER: &str = "(secret)";

/// Longest first: one may contain another.
static SECRETS: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// Takes a value for secret from now on: each of its lines, and the password in it if it is a URL.
pub fn add_secret(value: &str) {
    for line in value.lines() {
        insert(line.trim(), MIN_LENGTH);
    }
    add_url_credentials(value.trim());
}

/// Takes the password in a URL for secret, or the token that stands there in place of a user.
pub fn add_url_credentials(url: &str) {
    let Ok(url) = url::Url::parse(url) else {
        return;
    };
    let (password, shortest) = match url.password() {
        Some(password) => (password, MIN_LENGTH),
        None => (url.username(), MIN_TOKEN_LENGTH),
    };
    insert(password, shortest);
    let decoded = percent_encoding::percent_decode_str(password);
    insert(&decoded.decode_utf8_lossy(), shortest);
}

/// Takes what looks secret in a text that must not be shown: settings with their keys, say, or a private key.
pub fn add_secrets_of_text(text: &str) {
    for line in text.lines() {
        let separator = line.find(['=', ':']);
        let value = separator.map_or(line, |at| &line[at + 1..]);
        let value = value.trim().trim_matches(['"', '\'']);
        let place = value.starts_with('/') || (value.contains("://") && !value.contains('@'));
        let word = value.chars().all(|c| c.is_lowercase() || "_-.".contains(c)) && value.len() < 20;
        if value.len() >= MIN_LENGTH_IN_TEXT && !value.contains(' ') && !place && !word {
            add_secret(value);
        }
    }
}

fn insert(value: &str, shortest: usize) {
    let is_new = |known: &[String]| {
        value.len() >= shortest
            && known.len() < MAX_SECRETS
            && !known.iter().any(|old| old == value)
    };
    if is_new(&SECRETS.read().unwrap_or_else(|broken| broken.into_inner())) {
        let mut known = SECRETS.write().unwrap_or_else(|broken| broken.into_inner());
        known.push(value.to_owned());
        known.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }
}

/// A text without the secrets in it.
pub fn redact(text: impl Into<String>) -> String {
    let text = text.into();
    let known = SECRETS.read().unwrap_or_else(|broken| broken.into_inner());
    if !known.iter().any(|secret| text.contains(secret.as_str())) {
        return text;
    }
    known.iter().fold(text, |text, secret| {
        text.replace(secret.as_str(), PLACEHOLDER)
    })
}

/// Redacts what comes in pieces; a secret may be in two of them.
#[derive(Debug, Default)]
pub struct Redactor {
    secrets: Vec<Vec<u8>>,
    /// May be the beginning of a secret.
    pending: Vec<u8>,
}

impl Redactor {
    /// For the secrets that are known by now.
    pub fn new() -> Redactor {
        let known = SECRETS.read().unwrap_or_else(|broken| broken.into_inner());
        Redactor {
            secrets: known
                .iter()
                .map(|secret| secret.clone().into_bytes())
                .collect(),
            pending: Vec::new(),
        }
    }

    /// Takes what came, and returns what can be shown by now.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.pending.extend_from_slice(bytes);
        self.redact_pending(false)
    }

    /// Nothing more will come.
    pub fn finish(&mut self) -> Vec<u8> {
        self.redact_pending(true)
    }

    fn redact_pending(&mut self, all: bool) -> Vec<u8> {
        let held = std::mem::take(&mut self.pending);
        let mut first = [false; 256];
        for secret in &self.secrets {
            first[usize::from(secret[0])] = true;
        }
        let mut shown = Vec::with_capacity(held.len());
        let mut at = 0;
        while at < held.len() {
            let rest = &held[at..];
            if first[usize::from(rest[0])] {
                // One that is whole by now may be the beginning of another.
                let goes_on =
                    |secret: &Vec<u8>| secret.len() > rest.len() && secret.starts_with(rest);
                if !all && self.secrets.iter().any(goes_on) {
                    break;
                }
                if let Some(secret) = self.secrets.iter().find(|secret| rest.starts_with(secret)) {
                    shown.extend_from_slice(PLACEHOLDER.as_bytes());
                    at += secret.len();
                    continue;
                }
            }
            shown.push(rest[0]);
            at += 1;
        }
        self.pending = held[at..].to_vec();
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redact_in_chunks(text: &str, size: usize) -> String {
        let mut redactor = Redactor::new();
        let mut shown = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            shown.extend(redactor.push(piece));
        }
        shown.extend(redactor.finish());
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn secret_split_across_chunks_is_redacted() {
        add_secret("canary-in-pieces");
        let text = "a canary-in-pieces b canary-in-piecescanary-in-pieces canary-in";
        for size in 1..text.len() {
            let expected = "a (secret) b (secret)(secret) canary-in";
            assert_eq!(redact_in_chunks(text, size), expected, "by {size}");
        }
    }

    #[test]
    fn secret_that_extends_another_is_redacted_whole() {
        add_secret("canary-of-staging");
        add_secret("canary-of-staging-and-more");
        let text = "a canary-of-staging-and-more b canary-of-staging c";
        for size in 1..text.len() {
            assert_eq!(
                redact_in_chunks(text, size),
                "a (secret) b (secret) c",
                "by {size}"
            );
        }
    }

    #[test]
    fn secrets_in_urls_keys_and_files_are_redacted() {
        add_secret("postgres://shop:p%40ss-of-url@db/shop");
        add_secret("first-line-of-key\nsecond-line-of-key");
        add_secrets_of_text(
            "mode: production\npath=/usr/bin:/bin\nPASSWORD=\"s3cret-of-file\"\nurl: http://127.0.0.1/",
        );
        for secret in [
            "p%40ss-of-url",
            "p@ss-of-url",
            "second-line-of-key",
            "s3cret-of-file",
        ] {
            assert_eq!(redact(format!("<{secret}>")), "<(secret)>");
        }
        let plain = "production /usr/bin:/bin http://127.0.0.1/ PASSWORD";
        assert_eq!(redact(plain), plain);
    }
}
