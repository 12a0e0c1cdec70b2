//! Sizes in the notation that people write.

use serde::de::{self, Deserialize, Deserializer};

use crate::problem::InvalidValue;

/// A number of bytes, written as such or as `64K`, `100M`, `2G`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(with = "String"))]
pub(crate) struct Size(pub u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (digits, unit) = match text.strip_suffix(['K', 'M', 'G']) {
            Some(digits) => (digits, &text[digits.len()..]),
            None => (text.as_str(), ""),
        };
        let factor = match unit {
            "K" => 1 << 10,
            "M" => 1 << 20,
            "G" => 1 << 30,
            _ => 1,
        };
        match digits.parse::<u64>() {
            Ok(number) if number > 0 && number < 1 << 30 => Ok(Size(number * factor)),
            _ => Err(de::Error::custom(InvalidValue::new(
                format!("`{text}` is not a size"),
                "expected a number of bytes, or such as `64K`, `100M`, `2G`",
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::{ParseLimits, decode, parse};

    #[derive(Debug, serde::Deserialize)]
    struct Holder {
        v: Size,
    }

    fn read(text: &str) -> Result<Size, String> {
        let node = parse("t", format!("v: {text}").as_bytes(), ParseLimits::default()).unwrap();
        decode::<Holder>(&node)
            .map(|holder| holder.v)
            .map_err(|problem| problem.to_string())
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(read("100M").unwrap(), Size(100 << 20));
        assert_eq!(read("4096").unwrap(), Size(4096));
        for bad in ["0", "-1", "large", "1T", "1.5G", "9999999999999999G"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
