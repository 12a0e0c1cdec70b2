//! Durations in the notation that people write.

use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer};

/// A duration, written as a number of seconds or as `90s`, `15m`, `2h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(with = "String"))]
pub struct Seconds(pub Duration);

impl Seconds {
    pub const fn new(seconds: u64) -> Seconds {
        Seconds(Duration::from_secs(seconds))
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Seconds, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (digits, unit) = match text.strip_suffix(['s', 'm', 'h']) {
            Some(digits) => (digits, &text[digits.len()..]),
            None => (text.as_str(), "s"),
        };
        let factor = match unit {
            "m" => 60,
            "h" => 3600,
            _ => 1,
        };
        match digits.trim().parse::<u64>() {
            Ok(number) if number > 0 && number < 1_000_000 => Ok(Seconds::new(number * factor)),
            _ => Err(de::Error::custom(format!(
                "`{text}` is not a duration | expected a number of seconds, or such as `90s`, `15m`, `2h`"
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
        v: Seconds,
    }

    fn read(text: &str) -> Result<Seconds, String> {
        let node = parse("t", format!("v: {text}").as_bytes(), ParseLimits::default()).unwrap();
        decode::<Holder>(&node)
            .map(|holder| holder.v)
            .map_err(|problem| problem.to_string())
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(read("15m").unwrap(), Seconds::new(900));
        assert_eq!(read("30").unwrap(), Seconds::new(30));
        for bad in ["0", "-1", "soon", "1d"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
