//! The keys whose signatures a host accepts: a file in the `allowed_signers` format of OpenSSH, as `ssh-keygen -Y verify`
//! reads it.
//!
//! `PRINCIPALS [OPTIONS] KEYTYPE KEY [COMMENT]` on each line; see "ALLOWED SIGNERS" in ssh-keygen(1). The principals name
//! who signs, in messages. Of the options, `namespaces`, `valid-after` and `valid-before` count; `cert-authority` is refused,
//! because no certificates are accepted.

use std::path::Path;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ssh_key::PublicKey;

use crate::ports::root::Root;
use crate::problem::{Location, Problem, Problems};
use crate::settings::files::read_file;

/// Maximum number of lines with keys.
const MAX_SIGNERS: usize = 1000;

/// The keys that may sign, from a file that only root can change.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signers {
    /// As written in the settings.
    pub path: String,
    pub signers: Vec<Signer>,
}

/// One line of the file.
#[derive(Debug, Clone)]
pub(crate) struct Signer {
    /// Whose key it is.
    pub principals: String,
    pub key: PublicKey,
    /// `None`: any.
    namespaces: Option<Vec<String>>,
    valid_after: Option<Timestamp>,
    valid_before: Option<Timestamp>,
}

/// Why a known key may not sign something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignerRefusal {
    Namespace,
    NotYetValid(Timestamp),
    Expired(Timestamp),
}

impl Signer {
    /// A key that may sign anything.
    pub(crate) fn of_key(key: PublicKey) -> Signer {
        Signer {
            principals: "this publisher".into(),
            key,
            namespaces: None,
            valid_after: None,
            valid_before: None,
        }
    }

    /// Whether the key is for a namespace, at whatever time.
    pub(crate) fn is_for(&self, namespace: &str) -> bool {
        let namespaces = self.namespaces.as_ref();
        namespaces.is_none_or(|patterns| matches_list(patterns, namespace))
    }

    /// Whether the key may sign in a namespace at this time.
    pub(crate) fn check(&self, namespace: &str, now: Timestamp) -> Result<(), SignerRefusal> {
        match (self.valid_after, self.valid_before) {
            _ if !self.is_for(namespace) => Err(SignerRefusal::Namespace),
            (Some(after), _) if now < after => Err(SignerRefusal::NotYetValid(after)),
            (_, Some(before)) if now > before => Err(SignerRefusal::Expired(before)),
            _ => Ok(()),
        }
    }
}

/// A list of patterns as in ssh_config(5): one of them has to match, and none that begins with `!`.
fn matches_list(patterns: &[String], text: &str) -> bool {
    let matching = |pattern: &&str| is_match(pattern.as_bytes(), text.as_bytes());
    let refused = patterns
        .iter()
        .filter_map(|pattern| pattern.strip_prefix('!'));
    let mut accepted = patterns.iter().filter(|pattern| !pattern.starts_with('!'));
    !refused.clone().any(|pattern| matching(&pattern))
        && accepted.any(|pattern| matching(&pattern.as_str()))
}

/// `*` matches any text, `?` any byte. Takes time proportional to both lengths.
fn is_match(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut done) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while done < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, done));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[done] => {
                at += 1;
                done += 1;
            }
            _ => {
                let Some((of_star, taken)) = star else {
                    return false;
                };
                star = Some((of_star, taken + 1));
                at = of_star + 1;
                done = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

impl Signers {
    /// Reads a file that an option names.
    pub(super) fn load_named(root: &Root, path: &Path) -> Result<Signers, Problems> {
        let at = Location {
            file: path.display().to_string().into(),
            line: 1,
            column: 1,
        };
        Signers::load(root, path, &at)
    }

    /// Reads the file. `at`: where the settings name it.
    pub(super) fn load(root: &Root, path: &Path, at: &Location) -> Result<Signers, Problems> {
        let missing = || {
            let problem = Problem::new(format!("there is no file {}", path.display()));
            problem.at(at).field("signers").hint(
                "it lists the keys that may sign the manifest, in the `allowed_signers` format of ssh-keygen(1); without `signers` in the settings, unsigned manifests are accepted",
            )
        };
        let found = read_file(root, path).map_err(|problem| problem.field("signers"))?;
        let (_, body) = found.ok_or_else(missing)?;
        let name = path.display().to_string();
        let text = String::from_utf8(body)
            .map_err(|_| Problem::new(format!("{name} is not UTF-8 text")).field("signers"))?;
        parse(&name, &text)
    }
}

/// The keys of a text; all mistakes in it at once.
pub(crate) fn parse(name: &str, text: &str) -> Result<Signers, Problems> {
    let mut signers = Vec::new();
    let mut problems = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match parse_line(line) {
            Ok(signer) => signers.push(signer),
            Err(problem) => problems.push(problem.at(&Location {
                file: name.into(),
                line: u32::try_from(number + 1).unwrap_or(u32::MAX),
                column: 1,
            })),
        }
    }
    if problems.is_empty() && signers.is_empty() {
        let problem = Problem::new(format!("{name} lists no key, so nobody could sign"));
        problems.push(problem.hint(
            "a line such as `ana@example.com namespaces=\"trueup@production\" ssh-ed25519 AAAA…`",
        ));
    }
    if signers.len() > MAX_SIGNERS {
        problems.push(Problem::new(format!(
            "{name} lists {} keys; at most {MAX_SIGNERS} are allowed",
            signers.len()
        )));
    }
    match problems.is_empty() {
        true => Ok(Signers {
            path: name.to_owned(),
            signers,
        }),
        false => Err(Problems(problems)),
    }
}

fn parse_line(line: &str) -> Result<Signer, Problem> {
    let (principals, rest) = split_word(line);
    let mut signer_options = Vec::new();
    let (word, after) = split_word(rest);
    let key_text = match is_key_type(word) {
        true => rest,
        false => {
            signer_options = split_options(word)?;
            after
        }
    };
    if key_text.is_empty() {
        return Err(Problem::new(
            "expected `PRINCIPALS [OPTIONS] KEYTYPE KEY`, such as `ana@example.com ssh-ed25519 AAAA…`",
        ));
    }
    let key = PublicKey::from_openssh(key_text).map_err(|error| {
        Problem::new(format!("it has no valid public key: {error}"))
            .hint("a line of a `.pub` file follows the principals and options")
    })?;
    if !is_supported(&key) {
        return Err(Problem::new(format!(
            "keys of the type {} are not supported",
            key.algorithm().as_str()
        ))
        .hint(
            "use ed25519, ECDSA on P-256, or their security-key forms: `ssh-keygen -t ed25519`",
        ));
    }
    let mut signer = Signer {
        principals: unquote(principals).to_owned(),
        key,
        namespaces: None,
        valid_after: None,
        valid_before: None,
    };
    for (name, value) in signer_options {
        match (name.to_ascii_lowercase().as_str(), value) {
            ("namespaces", Some(list)) => {
                signer.namespaces = Some(list.split(',').map(str::to_owned).collect());
            }
            ("valid-after", Some(time)) => signer.valid_after = Some(parse_time(time)?),
            ("valid-before", Some(time)) => signer.valid_before = Some(parse_time(time)?),
            ("cert-authority", _) => {
                return Err(
                    Problem::new("`cert-authority`: certificates are not supported")
                        .hint("list the keys themselves"),
                );
            }
            _ => {
                return Err(Problem::new(format!("unknown option `{name}`"))
                    .suggest(&name, ["namespaces", "valid-after", "valid-before"]));
            }
        }
    }
    Ok(signer)
}

fn is_key_type(word: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-"]
        .iter()
        .any(|begin| word.starts_with(begin))
}

/// Whether signatures of such a key can be verified.
fn is_supported(key: &PublicKey) -> bool {
    let data = key.key_data();
    let is_p256 = data
        .ecdsa()
        .is_some_and(|key| key.curve() == ssh_key::EcdsaCurve::NistP256);
    data.is_ed25519() || data.is_sk_ed25519() || data.is_sk_ecdsa_p256() || is_p256
}

/// The first word and the rest. Quoted blanks belong to a word.
fn split_word(line: &str) -> (&str, &str) {
    let mut quoted = false;
    let end = line.find(|c: char| {
        quoted ^= c == '"';
        !quoted && c.is_ascii_whitespace()
    });
    let (word, rest) = line.split_at(end.unwrap_or(line.len()));
    (word, rest.trim_start())
}

/// `a="1,2",b` as names and values.
fn split_options(text: &str) -> Result<Vec<(String, Option<&str>)>, Problem> {
    let mut options = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut quoted = false;
        let end = rest.find(|c: char| {
            quoted ^= c == '"';
            !quoted && c == ','
        });
        let (option, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after.strip_prefix(',').unwrap_or(after);
        options.push(match option.split_once('=') {
            None => (option.to_owned(), None),
            Some((name, value)) => {
                let inner = value
                    .strip_prefix('"')
                    .and_then(|value| value.strip_suffix('"'));
                let inner = inner.ok_or_else(|| {
                    Problem::new(format!("`{option}`: expected a value in double quotes"))
                })?;
                (name.to_owned(), Some(inner))
            }
        });
    }
    Ok(options)
}

fn unquote(word: &str) -> &str {
    let inner = word.strip_prefix('"');
    inner
        .and_then(|word| word.strip_suffix('"'))
        .unwrap_or(word)
}

/// `20261130Z`, `202611301200Z` or `20261130120000Z`. OpenSSH also reads times without `Z`, by the time zone of the machine;
/// hosts would not agree on those.
fn parse_time(text: &str) -> Result<Timestamp, Problem> {
    let digits = text.strip_suffix('Z').unwrap_or_default();
    let is_complete = [8, 12, 14].contains(&digits.len());
    let time = DateTime::strptime("%Y%m%d%H%M%S", format!("{digits:0<14}")).ok();
    let time = time.filter(|_| is_complete && digits.bytes().all(|byte| byte.is_ascii_digit()));
    let zoned = time.and_then(|time| time.to_zoned(TimeZone::UTC).ok());
    zoned.map(|zoned| zoned.timestamp()).ok_or_else(|| {
        Problem::new(format!("`{text}` is not a time in UTC"))
            .hint("expected YYYYMMDDZ, YYYYMMDDHHMMZ or YYYYMMDDHHMMSSZ, such as `20270101Z`")
    })
}

#[cfg(test)]
mod tests;
