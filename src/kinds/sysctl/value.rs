//! The value of a setting of the kernel.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

use crate::problem::InvalidValue;

/// Longest value, in bytes: the kernel takes at most a page.
const MAX_VALUE_BYTES: usize = 1024;

/// One line, with single spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::kinds) struct SysctlValue(String);

impl SysctlValue {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(text: &str) -> Result<SysctlValue, InvalidValue> {
        let refuse = |why: &str| {
            Err(InvalidValue::new(
                format!("`{}` is no value: {why}", text.escape_default()),
                "expected a number, or a text of one line such as \"4096 87380 6291456\"",
            ))
        };
        if text.trim().is_empty() {
            return refuse("it is empty");
        }
        if text.len() > MAX_VALUE_BYTES {
            return refuse("it is too long");
        }
        if text.chars().any(|c| c.is_control() && c != '\t') {
            return refuse("it has a line end or another control character");
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        Ok(SysctlValue(words.join(" ")))
    }
}

/// Whether two values are the same to the kernel, which shows tabs between numbers.
pub(super) fn same_value(one: &str, other: &str) -> bool {
    one.split_whitespace().eq(other.split_whitespace())
}

impl<'de> Deserialize<'de> for SysctlValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SysctlValue, D::Error> {
        struct ValueVisitor;
        impl Visitor<'_> for ValueVisitor {
            type Value = SysctlValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a text")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<SysctlValue, E> {
                Ok(SysctlValue(number.to_string()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<SysctlValue, E> {
                Ok(SysctlValue(number.to_string()))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SysctlValue, E> {
                SysctlValue::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(ValueVisitor)
    }
}
