//! The digest of an object that the manifest names, so that it is ordered and signed with the manifest.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};

use super::Sha;
use crate::digest::digest;
use crate::problem::InvalidValue;

const PREFIX: &str = "sha256:";

/// The sha256 of an object in the store, as written in the manifest: `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ContentDigest(String);

impl ContentDigest {
    /// The digest of this content.
    pub(crate) fn of(body: &[u8]) -> ContentDigest {
        ContentDigest(digest(body))
    }

    /// Its 64 hexadecimal digits.
    pub(crate) fn hex(&self) -> &str {
        &self.0
    }

    /// What stands for it where rollouts know apps by a git sha: its first 40 digits.
    pub(crate) fn rollout_sha(&self) -> Sha {
        Sha::parse(&self.0[..40]).expect("a digest has more digits than a sha")
    }

    /// The first twelve digits, for people.
    pub(crate) fn short(&self) -> &str {
        &self.0[..12]
    }

    pub(crate) fn parse(text: &str) -> Option<ContentDigest> {
        let hex = text.strip_prefix(PREFIX)?;
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (hex.len() == 64 && hex.bytes().all(is_digit)).then(|| ContentDigest(hex.to_owned()))
    }
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0)
    }
}

impl<'de> Deserialize<'de> for ContentDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ContentDigest, D::Error> {
        let text = String::deserialize(deserializer)?;
        ContentDigest::parse(&text).ok_or_else(|| {
            de::Error::custom(InvalidValue::new(
                format!("`{text}` is not a digest"),
                "expected `sha256:` and 64 lower-case hexadecimal digits",
            ))
        })
    }
}

impl Serialize for ContentDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::ContentDigest;

    #[test]
    fn only_a_whole_lower_case_digest_is_accepted() {
        let digest = ContentDigest::of(b"abc");
        let text = digest.to_string();
        assert_eq!(ContentDigest::parse(&text), Some(digest));
        for bad in [
            &text[7..],
            &text[..70],
            &text.to_uppercase(),
            "sha256:../x",
            "",
        ] {
            assert_eq!(ContentDigest::parse(bad), None, "{bad}");
        }
    }
}
