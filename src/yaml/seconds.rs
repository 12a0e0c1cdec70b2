//! Durations in the notation that people write.

use std::str::FromStr;
use std::time::Duration;

use jiff::SpanRelativeTo;
use jiff::fmt::friendly::SpanParser;
use serde::de::{self, Deserialize, Deserializer};

use crate::problem::InvalidValue;

/// Above this, a number without a unit is more likely meant as milliseconds.
const MAX_BARE_SECONDS: u64 = 999_999;

const MAX: Duration = Duration::from_hours(999_999);

/// A duration, written as a number of seconds or as `90s`, `1h30m`, `2d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(with = "String"))]
pub(crate) struct Seconds(pub Duration);

impl Seconds {
    #[cfg(test)]
    pub(crate) const fn new(seconds: u64) -> Seconds {
        Seconds(Duration::from_secs(seconds))
    }
}

impl FromStr for Seconds {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Seconds, InvalidValue> {
        const EXPECTED: &str = "expected a number of seconds, or such as `90s`, `1h30m`, `2d`";
        let time = match text.trim().parse::<u64>() {
            Ok(bare) if bare > MAX_BARE_SECONDS => {
                return Err(InvalidValue::new(
                    format!("`{text}` is too large without a unit"),
                    format!("write `{bare}s` if seconds are meant"),
                ));
            }
            Ok(bare) => Some(Duration::from_secs(bare)),
            Err(_) => parse_units(text.trim()),
        };
        match time {
            Some(Duration::ZERO) => Err(InvalidValue::new(
                format!("`{text}` is not longer than 0 seconds"),
                EXPECTED,
            )),
            Some(time) if time.subsec_nanos() == 0 && time <= MAX => Ok(Seconds(time)),
            _ => Err(InvalidValue::new(
                format!("`{text}` is not a duration"),
                EXPECTED,
            )),
        }
    }
}

/// A day has 24 hours here; months and years have no length.
fn parse_units(text: &str) -> Option<Duration> {
    let span = SpanParser::new().parse_span(text).ok()?;
    let time = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(time).ok()
}

/// A duration that may also be zero, written `0` or `0s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SecondsOrZero(pub Duration);

impl<'de> Deserialize<'de> for SecondsOrZero {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SecondsOrZero, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.trim() {
            "0" | "0s" => Ok(SecondsOrZero(Duration::ZERO)),
            other => {
                let seconds: Seconds = other.parse().map_err(de::Error::custom)?;
                Ok(SecondsOrZero(seconds.0))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Seconds, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        for (text, seconds) in [
            ("30", 30),
            ("90s", 90),
            ("15m", 900),
            ("2 h", 7200),
            ("1h30m", 5400),
            ("1h 30min", 5400),
            ("1.5h", 5400),
            ("2d", 172_800),
            ("2 weeks", 14 * 86_400),
            ("999999h", 999_999 * 3600),
        ] {
            assert_eq!(read(text), Ok(Seconds::new(seconds)), "{text}");
        }
    }

    #[test]
    fn unclear_empty_and_absurd_durations_are_refused() {
        for bad in [
            "0",
            "0s",
            "-1",
            "-15m",
            "15m ago",
            "soon",
            "''",
            "' '",
            "s",
            "M",
            "15M",
            "1mo",
            "1y",
            "1.5",
            "1.5s",
            "200ms",
            "1h30",
            "PT1H",
            "1000000",
            "1000000h",
            "99999999999999999999",
            "99999999999999999999h",
            "NaN",
            "1e3s",
        ] {
            let error = match read(bad) {
                Ok(time) => panic!("{bad}: {time:?}"),
                Err(error) => error,
            };
            assert!(
                error.contains(
                    "hint: expected a number of seconds, or such as `90s`, `1h30m`, `2d`"
                ) || error.contains("hint: write `1000000s` if seconds are meant"),
                "{bad}: {error}"
            );
        }
    }

    #[test]
    fn zero_is_a_duration_only_where_it_is_allowed() {
        #[derive(Debug, serde::Deserialize)]
        struct Zeroable {
            v: SecondsOrZero,
        }
        let read = |text: &str| {
            let node = parse("t", format!("v: {text}").as_bytes(), ParseLimits::default()).unwrap();
            decode::<Zeroable>(&node).map(|holder| holder.v.0.as_secs())
        };
        for (text, seconds) in [("0", 0), ("0s", 0), ("'0'", 0), ("5m", 300), ("90", 90)] {
            assert_eq!(read(text), Ok(seconds), "{text}");
        }
        for bad in ["-1", "-0", "soon", "''", "~", "0.5s", "1000000"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        /// One whole number with at most one of three letters, the only notation of earlier versions.
        #[test]
        fn every_number_with_one_unit_keeps_its_length(
            number in 1..1_000_000_u64,
            zeros in "0{0,5}",
            sign in "\\+?",
            before in "[ \t]{0,2}",
            blank in "[ \t]{0,2}",
            (unit, factor) in prop::sample::select(&[("", 1), ("s", 1), ("m", 60), ("h", 3600)][..]),
        ) {
            let text = format!("{before}{sign}{zeros}{number}{blank}{unit}");
            prop_assert_eq!(text.parse(), Ok(Seconds::new(number * factor)), "{:?}", text);
        }
    }
}
