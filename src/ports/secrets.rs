//! Registry of the secrets known to this pass, and redaction of texts.
//!
//! Resources register their secrets ([`Kind::resolve`](crate::kind::Kind::resolve));
//! from then on they are removed from all program output: a [`Redactor`] filters what trueup records or logs
//! of every child, and every [`Failure`](crate::resource::Failure) is redacted again on creation. The
//! registry is global, as the log is: the output of one app's step may contain another app's secret.

use std::sync::RwLock;

/// Shorter values are not redacted: the texts would become unreadable.
const MIN_LENGTH: usize = 6;

/// Shorter values in a text that is secret as a whole are ordinary words.
const MIN_LENGTH_IN_TEXT: usize = 8;

/// A shorter user name in a URL is taken for a name and not for a token.
const MIN_TOKEN_LENGTH: usize = 16;

/// Most registered values: a large secret file does not consist of passwords.
const MAX_SECRETS: usize = 10_000;

/// Replaces a secret in all output. In the address of a repository `***` does: parentheses would break the URL.
pub(crate) const PLACEHOLDER: &str = "(secret)";

/// Longest first: one may contain another.
static SECRETS: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// Registers a value: each of its lines, and the password in it if it is a URL.
pub(crate) fn add_secret(value: &str) {
    for line in value.lines() {
        insert(line.trim(), MIN_LENGTH);
    }
    add_url_credentials(value.trim());
}

/// Registers the password in a URL, or the token in place of the user name.
pub(crate) fn add_url_credentials(url: &str) {
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

/// Registers the values that look secret in a confidential text: settings with their keys, or a private key.
pub(crate) fn add_secrets_of_text(text: &str) {
    for line in text.lines() {
        let separator = line.find(['=', ':']);
        let value = separator.map_or(line, |at| &line[at + 1..]);
        let value = value.trim().trim_matches(['"', '\'']);
        let is_address = value.starts_with('/') || (value.contains("://") && !value.contains('@'));
        let word = value.chars().all(|c| c.is_lowercase() || "_-.".contains(c)) && value.len() < 20;
        if value.len() >= MIN_LENGTH_IN_TEXT && !value.contains(' ') && !is_address && !word {
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

/// Replaces the secrets in a text.
pub(crate) fn redact(text: impl Into<String>) -> String {
    let text = text.into();
    let known = SECRETS.read().unwrap_or_else(|broken| broken.into_inner());
    if !known.iter().any(|secret| text.contains(secret.as_str())) {
        return text;
    }
    known.iter().fold(text, |text, secret| {
        text.replace(secret.as_str(), PLACEHOLDER)
    })
}

/// Redacts a stream that arrives in pieces; a secret may span two of them.
#[derive(Debug, Default)]
pub(crate) struct Redactor {
    secrets: Vec<Vec<u8>>,
    /// May be the beginning of a secret.
    pending: Vec<u8>,
}

impl Redactor {
    /// Covers the secrets registered so far.
    pub(crate) fn new() -> Redactor {
        let known = SECRETS.read().unwrap_or_else(|broken| broken.into_inner());
        Redactor {
            secrets: known
                .iter()
                .map(|secret| secret.clone().into_bytes())
                .collect(),
            pending: Vec::new(),
        }
    }

    /// Takes the next piece, and returns the part that is safe to show by now.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.pending.extend_from_slice(bytes);
        self.redact_pending(false)
    }

    /// Ends the stream, and returns the rest.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
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
                // A complete secret may also be the beginning of another.
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
