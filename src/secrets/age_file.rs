//! Encrypts and decrypts age files, within bounds.

use std::io::{Read, Write};

use age::armor::ArmoredReader;

use super::identity::Identity;
use super::recipient::Recipient;

/// Maximum size of a value, in bytes.
pub(crate) const MAX_VALUE_BYTES: usize = 64 << 10;

/// Maximum size of the header, in bytes: its recipients.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// Maximum number of lines in a header. The parser of `age` starts again with each line that it reads, so its time
/// grows with the square.
const MAX_HEADER_LINES: usize = 1100;

/// Most recipients of a secret: two lines of the header each, if they are ed25519 keys.
pub(crate) const MAX_RECIPIENTS: usize = 500;

/// Maximum size of an encrypted object, in bytes: header, value, and a third more for base64.
pub(crate) const MAX_OBJECT_BYTES: usize = 192 << 10;

/// The kinds of recipients that are accepted, as the headers name them.
const ACCEPTED_STANZAS: [&str; 3] = ["X25519", "ssh-ed25519", "ssh-rsa"];

/// What the type of a meaningless recipient ends with, which age adds so that readers get used to unknown ones.
const GREASE: &str = "-grease";

/// Why a file was not encrypted or decrypted. No message quotes the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AgeError {
    #[error("it is not an age file")]
    NotAge,
    #[error("it is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error(
        "it has too many recipients: more than {MAX_HEADER_LINES} lines or {MAX_HEADER_BYTES} bytes"
    )]
    HeaderTooLarge,
    #[error("it is encrypted with a passphrase")]
    Passphrase,
    #[error("it is encrypted to a recipient of an unsupported kind, `{0}`")]
    UnsupportedRecipient(String),
    #[error("it is encrypted to other keys")]
    OtherRecipients,
    #[error("it is damaged")]
    Damaged,
    #[error("its value is no UTF-8 text")]
    NotText,
    #[error("it has no recipients")]
    NoRecipients,
    #[error("there are {0} recipients, more than {MAX_RECIPIENTS}")]
    TooManyRecipients(usize),
    #[error("it cannot be encrypted: {0}")]
    Encrypt(String),
}

impl AgeError {
    /// What an operator can do about a file that a host cannot decrypt.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            AgeError::OtherRecipients => {
                "is this host's key new? `trueup secret rekey ENV` encrypts the secrets to it as well"
            }
            AgeError::Passphrase | AgeError::UnsupportedRecipient(_) => {
                "encrypt it to age keys (`age1…`) or ssh keys: `trueup secret set ENV NAME` does"
            }
            AgeError::TooManyRecipients(_) | AgeError::HeaderTooLarge => {
                "give the hosts of a large fleet one age key when they boot, and name it in `secrets: {identity: FILE}`"
            }
            _ => "encrypt it again: `trueup secret set ENV NAME`",
        }
    }
}

/// Encrypts a value to these keys.
pub(crate) fn encrypt(value: &[u8], recipients: &[Recipient]) -> Result<Vec<u8>, AgeError> {
    if value.len() > MAX_VALUE_BYTES {
        return Err(AgeError::TooLarge {
            limit: MAX_VALUE_BYTES,
        });
    }
    if recipients.is_empty() {
        return Err(AgeError::NoRecipients);
    }
    if recipients.len() > MAX_RECIPIENTS {
        return Err(AgeError::TooManyRecipients(recipients.len()));
    }
    let failed = |error: &dyn std::fmt::Display| AgeError::Encrypt(error.to_string());
    let keys = recipients.iter().map(Recipient::key);
    let encryptor = age::Encryptor::with_recipients(keys).map_err(|error| failed(&error))?;
    let mut file = Vec::new();
    let mut writer = encryptor
        .wrap_output(&mut file)
        .map_err(|error| failed(&error))?;
    writer.write_all(value).map_err(|error| failed(&error))?;
    writer.finish().map_err(|error| failed(&error))?;
    // What no host would accept is not written.
    check_header(&file)?;
    Ok(file)
}

/// Decrypts a file, in base64 or not, with the first of these keys that fits.
pub(crate) fn decrypt(file: &[u8], identities: &[Identity]) -> Result<String, AgeError> {
    let limit = MAX_OBJECT_BYTES;
    if file.len() > limit {
        return Err(AgeError::TooLarge { limit });
    }
    let mut plain = Vec::new();
    let reader = ArmoredReader::new(file).take(limit as u64);
    let mut reader = reader;
    reader
        .read_to_end(&mut plain)
        .map_err(|_| AgeError::NotAge)?;
    check_header(&plain)?;
    let decryptor = age::Decryptor::new_buffered(&plain[..]).map_err(|_| AgeError::NotAge)?;
    let keys = identities.iter().map(Identity::key);
    let stream = decryptor.decrypt(keys).map_err(|error| match error {
        age::DecryptError::NoMatchingKeys => AgeError::OtherRecipients,
        _ => AgeError::Damaged,
    })?;
    let mut value = Vec::new();
    stream
        .take(MAX_VALUE_BYTES as u64 + 1)
        .read_to_end(&mut value)
        .map_err(|_| AgeError::Damaged)?;
    if value.len() > MAX_VALUE_BYTES {
        return Err(AgeError::TooLarge {
            limit: MAX_VALUE_BYTES,
        });
    }
    String::from_utf8(value).map_err(|_| AgeError::NotText)
}

/// Refuses a header that is too large to parse, or has a recipient of a kind that nobody here can have made.
fn check_header(file: &[u8]) -> Result<(), AgeError> {
    if !file.starts_with(b"age-encryption.org/v1\n") {
        return Err(AgeError::NotAge);
    }
    let mut bytes = 0;
    for (number, line) in file.split(|byte| *byte == b'\n').enumerate() {
        bytes += line.len() + 1;
        if bytes > MAX_HEADER_BYTES || number > MAX_HEADER_LINES {
            return Err(AgeError::HeaderTooLarge);
        }
        if line.starts_with(b"--- ") {
            return Ok(());
        }
        if let Some(stanza) = line.strip_prefix(b"-> ") {
            let kind = stanza.split(|byte| *byte == b' ').next();
            let kind = String::from_utf8_lossy(kind.unwrap_or_default());
            match &*kind {
                "scrypt" => return Err(AgeError::Passphrase),
                kind if ACCEPTED_STANZAS.contains(&kind) || kind.ends_with(GREASE) => {}
                kind => {
                    let kind = kind.chars().take(40).collect::<String>();
                    let kind = crate::printable::line(&kind).into_owned();
                    return Err(AgeError::UnsupportedRecipient(kind));
                }
            }
        }
    }
    Err(AgeError::NotAge)
}
