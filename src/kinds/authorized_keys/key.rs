//! One line of an `authorized_keys` file.
//!
//! Error messages never quote the line: it may be a private key that a user pasted by mistake.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The key types that sshd accepts, and the number of values in the key after its type.
const KEY_TYPES: &[(&str, usize)] = &[
    ("ssh-ed25519", 1),
    ("ssh-rsa", 2),
    ("ecdsa-sha2-nistp256", 2),
    ("ecdsa-sha2-nistp384", 2),
    ("ecdsa-sha2-nistp521", 2),
    ("sk-ssh-ed25519@openssh.com", 2),
    ("sk-ecdsa-sha2-nistp256@openssh.com", 3),
];

/// A public key with its options and comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublicKey {
    /// The line as written in the file.
    pub line: String,
    options: String,
    kind: &'static str,
    body: String,
    comment: String,
}

impl PublicKey {
    /// Parses a line. The error describes the problem without quoting the line.
    pub(super) fn parse(line: &str) -> Result<PublicKey, String> {
        let line = line.trim();
        if line.contains("PRIVATE KEY") || line.contains("PuTTY-User-Key-File") {
            return Err(private_key_error());
        }
        if line.starts_with("---- BEGIN SSH2 PUBLIC KEY") {
            return Err(
                "it is a key in SSH2 format: `ssh-keygen -i -f FILE` converts it to a line".into(),
            );
        }
        if line.contains(['\n', '\r', '\0']) {
            return Err("it is more than one line: each key is an item of its own".into());
        }
        let (options, key) = if parse_key_type(line).is_some() {
            ("", line)
        } else {
            split_options(line)
        };
        let mut words = key.splitn(3, [' ', '\t']);
        let found = parse_key_type(key).ok_or_else(|| invalid_key_error(line))?;
        let body = words.nth(1).unwrap_or_default();
        let comment = words.next().unwrap_or_default().trim();
        check_body(body, found)?;
        Ok(PublicKey {
            line: line.to_owned(),
            options: options.to_owned(),
            kind: found.0,
            body: body.to_owned(),
            comment: comment.to_owned(),
        })
    }

    /// Whether both have the same key, regardless of options and comments.
    pub(super) fn is_same_key(&self, other: &PublicKey) -> bool {
        self.kind == other.kind && self.body == other.body
    }

    /// A summary for reports: the type, the end of the key, the comment, and only the names of the options.
    pub(super) fn summary(&self) -> String {
        let end = self.body.len().saturating_sub(12);
        let mut text = format!("{} …{}", self.kind, &self.body[end..]);
        let visible = |c: &char| !c.is_control();
        if !self.comment.is_empty() {
            text.push(' ');
            text.extend(self.comment.chars().filter(visible).take(60));
        }
        let names = option_names(&self.options);
        if !names.is_empty() {
            text.push_str(&format!(" ({})", names.join(", ")));
        }
        text
    }
}

fn private_key_error() -> String {
    "it is a private key, which must stay secret: replace the key pair, and put the public key here (the `.pub` file)".into()
}

fn invalid_key_error(line: &str) -> String {
    let types: Vec<&str> = KEY_TYPES.iter().map(|(name, _)| *name).collect();
    // The base64 body of a private key in OpenSSH's format starts with these letters.
    if line.contains("b3BlbnNzaC1rZXktdjE") {
        return private_key_error();
    }
    if line.split([' ', '\t']).any(|word| word == "ssh-dss") {
        return "sshd no longer accepts ssh-dss keys".into();
    }
    format!(
        "it is not a public key: expected a type ({}), the key and a comment",
        types.join(", ")
    )
}

fn parse_key_type(text: &str) -> Option<(&'static str, usize)> {
    let word = text.split([' ', '\t']).next()?;
    KEY_TYPES.iter().copied().find(|(name, _)| *name == word)
}

/// Splits off the options, which end at the first blank outside quotes, as in sshd.
fn split_options(line: &str) -> (&str, &str) {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in line.char_indices() {
        match c {
            '"' if !escaped => quoted = !quoted,
            ' ' | '\t' if !quoted => return (&line[..at], line[at..].trim_start()),
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    (line, "")
}

/// The names of the options: `restrict,command="…"` gives `restrict` and `command`.
fn option_names(options: &str) -> Vec<String> {
    let (mut quoted, mut escaped, mut value) = (false, false, false);
    let mut names = vec![String::new()];
    for c in options.chars() {
        match c {
            '"' if !escaped => quoted = !quoted,
            ',' if !quoted => {
                value = false;
                names.push(String::new());
            }
            '=' if !quoted => value = true,
            c if !quoted && !value && !c.is_control() => {
                if let Some(name) = names.last_mut() {
                    name.push(c);
                }
            }
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Checks that the key repeats its type inside and then holds as many values as that type has. Detects a
/// truncated key and one of another type.
fn check_body(body: &str, (kind, values): (&str, usize)) -> Result<(), String> {
    let cut = || "the key is damaged or truncated".to_owned();
    // Canonical base64 with padding, as sshd requires it.
    let bytes = STANDARD.decode(body).map_err(|_| cut())?;
    if bytes.starts_with(b"openssh-key-v1\0") {
        return Err(private_key_error());
    }
    let (inner, mut rest) = split_ssh_string(&bytes).ok_or_else(cut)?;
    if inner != kind.as_bytes() {
        return Err(format!(
            "it is declared as {kind}, but the key is of another type"
        ));
    }
    for _ in 0..values {
        rest = match split_ssh_string(rest) {
            Some((found, rest)) if !found.is_empty() => rest,
            _ => return Err(cut()),
        };
    }
    if rest.is_empty() { Ok(()) } else { Err(cut()) }
}

/// Splits off one length-prefixed value; returns it and the rest.
fn split_ssh_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) const ANA: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB6ylTm3jwmIjjCEvwxDVbO8f8k4S1OfbjERvJLmVhnY ana@laptop";
    pub(crate) const BEN: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHMRK3vFr9pG4dBN8TCzB46/D6s81H0i/iIZ2D2jg73bwy/BnZkdNPvJfptyZX3luyh1Spleq4gH3B5hSkpQsvs= ben@desk";
    pub(crate) const EVE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIABKjgmkmqKHKYhXf6uL62EPzHwy7YYenuGUZ5T+9vJw eve";
    const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC2YBn0pofBLqVhoVyQENAHPPmV2sel/xs/YIe/GluJ1G8vmd3iBT1Z63VPzO/3kOMZf8N3ZDwhUCDXSPyDnuBFIDz0AQm+PokG7GNLz2cKNbSY8m8am+rybPGLaiibCeW3VTsohYJ+ngYyB1NonH3bUQDgs/Qx9IFwULr4gH9nFhfLzGW1zq6qa65Y8SeLABsCMt2cghQac7LBo/uQyO9UOWGmk/xayNZI+IJ/+n2J8xIlcRxwCTfgx/JO3fRsax0K03JJQaL6pgGHCKENhodkw+GpwVuNnqW1tYdpEvEY8Rt8EAbGeIzlggwSMBmlT5ASqCnKgcybrvVzx3y+XSkP ci";

    #[test]
    fn fuzz_public_keys() {
        let words = &[
            "ssh-ed25519 ",
            "ssh-rsa ",
            "ecdsa-sha2-nistp256 ",
            "AAAAC3NzaC1lZDI1NTE5AAAAI",
            "command=\"",
            "restrict,",
            "from=\"10.0.0.1\" ",
            "==",
            "\\\"",
            " ",
        ];
        let law = |input: &[u8]| {
            let text = String::from_utf8_lossy(input);
            let Ok(key) = PublicKey::parse(&text) else {
                return false;
            };
            assert!(!key.line.contains(['\n', '\r', '\0']), "{:?}", key.line);
            let again = PublicKey::parse(&key.line).expect("a key can be read again");
            assert_eq!(again.line, key.line);
            assert!(again.is_same_key(&key) && !key.summary().is_empty());
            true
        };
        let name = "public-key";
        crate::fuzz::Target {
            name,
            words,
            law: &law,
        }
        .run();
    }

    #[test]
    fn summary_shows_key_type_last_characters_and_comment() {
        assert_eq!(
            PublicKey::parse(ANA).unwrap().summary(),
            "ssh-ed25519 …bjERvJLmVhnY ana@laptop"
        );
        assert!(
            PublicKey::parse(BEN)
                .unwrap()
                .summary()
                .ends_with("ben@desk")
        );
        assert!(
            PublicKey::parse(RSA)
                .unwrap()
                .summary()
                .starts_with("ssh-rsa …")
        );
    }

    #[test]
    fn options_are_kept_and_only_their_names_are_shown() {
        let line = format!(r#"restrict,environment="TOKEN=a \"b\", c",command="run me" {ANA}"#);
        let key = PublicKey::parse(&line).unwrap();
        assert_eq!(key.line, line);
        assert!(key.is_same_key(&PublicKey::parse(ANA).unwrap()));
        let short = key.summary();
        assert!(
            short.ends_with("ana@laptop (restrict, environment, command)"),
            "{short}"
        );
        assert!(
            !short.contains("TOKEN") && !short.contains("run me"),
            "{short}"
        );
    }

    #[test]
    fn private_key_is_rejected_without_repeating_it() {
        let secret = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW";
        let header = "-----BEGIN OPENSSH PRIVATE KEY-----";
        for line in [
            format!("{header}\n{secret}\n-----END OPENSSH PRIVATE KEY-----"),
            secret.to_owned(),
            format!("ssh-ed25519 {secret}AA ana"),
            "PuTTY-User-Key-File-3: ssh-ed25519".to_owned(),
        ] {
            let error = PublicKey::parse(&line).unwrap_err();
            assert!(error.contains("private key"), "{error}");
            assert!(
                !error.contains("b3Bl") && !error.contains("AAAA"),
                "{error}"
            );
        }
    }

    #[test]
    fn damaged_keys_are_refused_without_being_shown() {
        let body = ANA.split(' ').nth(1).unwrap();
        for bad in [
            "ssh-ed25519".to_owned(),
            format!("ssh-ed25519 {}", &body[..body.len() - 4]),
            format!("ssh-ed25519 {}", &body[..body.len() - 1]),
            format!("ssh-ed25519 {body}AAAA"),
            format!("ssh-rsa {body} ana"),
            format!("ssh-dss {body} ana"),
            format!("ssh-ed25519-cert-v01@openssh.com {body}"),
            format!("ssh-ed25519 {}", body.replace('3', "!")),
            body.to_owned(),
            format!("command=\"unclosed {ANA}"),
            format!("{ANA}\n{BEN}"),
            "secret words".to_owned(),
            String::new(),
        ] {
            let error = PublicKey::parse(&bad).unwrap_err();
            assert!(
                !error.contains("AAAA") && !error.contains("secret"),
                "{error}"
            );
        }
    }

    #[test]
    fn key_body_must_be_canonical_base64_as_in_openssh() {
        // The last digit before the padding of BEN's key has bits that belong to no byte.
        let damaged = BEN.replace("pQsvs=", "pQsvt=");
        assert_ne!(damaged, BEN);
        for body in ["", "YW", "Y===", "====", "YW=J"] {
            let error = PublicKey::parse(&format!("ssh-ed25519 {body}")).unwrap_err();
            assert_eq!(error, "the key is damaged or truncated", "{body}");
        }
        let error = PublicKey::parse(&damaged).unwrap_err();
        assert_eq!(error, "the key is damaged or truncated");
    }
}
