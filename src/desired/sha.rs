//! A full git sha.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};

use crate::problem::InvalidValue;

/// 40 lower-case hexadecimal digits. Nothing shorter is ever accepted: a short sha or a branch name can mean
/// something else tomorrow.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Sha(String);

impl Sha {
    pub(crate) fn parse(text: &str) -> Result<Sha, InvalidValue> {
        let hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match (hex, text.len()) {
            (true, 40) => Ok(Sha(text.to_ascii_lowercase())),
            (true, 4..40) => Err(InvalidValue::new(
                format!("`{text}` is a short sha ({} of 40 digits)", text.len()),
                format!("write the full sha: `git rev-parse {text}` prints it"),
            )),
            (true, 64) => Err(InvalidValue::new(
                format!("`{text}` is a sha-256 id (64 digits): not supported"),
                "expected 40 hexadecimal digits: trueup deploys from repositories with git's default object format, sha-1, alone (`git rev-parse --show-object-format` prints it)",
            )),
            (_, 0) => Err(InvalidValue::new(
                "the sha is empty",
                "expected 40 hexadecimal digits",
            )),
            _ => Err(InvalidValue::new(
                format!("`{text}` is not a git sha"),
                format!(
                    "expected 40 hexadecimal digits; for a branch or tag name `git rev-parse {text}` prints its sha"
                ),
            )),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The first seven digits, for people and folder names.
    pub(crate) fn short(&self) -> &str {
        &self.0[..7]
    }
}

impl fmt::Display for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Sha {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Sha {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Sha, D::Error> {
        let text = String::deserialize(deserializer)?;
        Sha::parse(&text).map_err(de::Error::custom)
    }
}
