//! A number of hosts, absolute or as a part of all.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};

use crate::problem::InvalidValue;

/// A number of hosts, written `2`, or a percentage of all hosts of the app, written `25%`. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Amount {
    Count(u32),
    /// From 1 to 100.
    Percent(u8),
}

impl Amount {
    /// The number of hosts that this is of `total`. A percentage is rounded down, and is at least 1. A count may
    /// exceed `total`.
    pub(crate) fn of(self, total: usize) -> usize {
        match self {
            Amount::Count(count) => usize::try_from(count).unwrap_or(usize::MAX),
            // Rounded down exactly, and without an overflow for any total.
            Amount::Percent(percent) => {
                let percent = usize::from(percent);
                (total / 100 * percent + total % 100 * percent / 100).max(1)
            }
        }
    }
}

impl FromStr for Amount {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Amount, InvalidValue> {
        const EXPECTED: &str =
            "expected a number of hosts from 1, such as `2`, or a percentage from `1%` to `100%`";
        let invalid = |why: &str| InvalidValue::new(format!("`{text}` is {why}"), EXPECTED);
        let digits = text.strip_suffix('%').unwrap_or(text);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number {
            return Err(invalid("not a number of hosts"));
        }
        if digits.bytes().all(|byte| byte == b'0') {
            return Err(invalid("no hosts at all"));
        }
        match digits.len() < text.len() {
            true => match digits.parse() {
                Ok(percent @ 1..=100) => Ok(Amount::Percent(percent)),
                _ => Err(invalid("more than all hosts")),
            },
            false => match digits.parse() {
                Ok(count) => Ok(Amount::Count(count)),
                Err(_) => Err(invalid("more hosts than there can be")),
            },
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Amount::Count(count) => write!(f, "{count}"),
            Amount::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Amount, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// A count as a number, a percentage as a text.
impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Amount::Count(count) => serializer.serialize_u32(*count),
            Amount::Percent(_) => serializer.collect_str(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentage_is_rounded_down_and_at_least_one() {
        for (text, total, expected) in [
            ("25%", 0, 1),
            ("25%", 1, 1),
            ("25%", 7, 1),
            ("25%", 8, 2),
            ("33%", 100, 33),
            ("99%", 3, 2),
            ("100%", 40, 40),
            ("1%", 10_000, 100),
            ("100%", usize::MAX, usize::MAX),
            ("3", 0, 3),
            ("3", 40, 3),
        ] {
            let amount: Amount = text.parse().unwrap();
            assert_eq!(amount.of(total), expected, "{text} of {total}");
            assert_eq!(amount.to_string(), text);
        }
    }

    #[test]
    fn amounts_of_nobody_and_of_more_than_all_are_refused() {
        for (text, expected) in [
            ("0", "`0` is no hosts at all"),
            ("00", "`00` is no hosts at all"),
            ("0%", "`0%` is no hosts at all"),
            ("101%", "`101%` is more than all hosts"),
            ("300%", "`300%` is more than all hosts"),
            ("4294967296", "`4294967296` is more hosts than there can be"),
            ("-1", "`-1` is not a number of hosts"),
            ("+1", "`+1` is not a number of hosts"),
            ("1.5", "`1.5` is not a number of hosts"),
            ("2.5%", "`2.5%` is not a number of hosts"),
            ("25 %", "`25 %` is not a number of hosts"),
            ("%", "`%` is not a number of hosts"),
            ("", "`` is not a number of hosts"),
            ("half", "`half` is not a number of hosts"),
            ("0x10", "`0x10` is not a number of hosts"),
            ("٣", "`٣` is not a number of hosts"),
        ] {
            let error = text.parse::<Amount>().unwrap_err();
            assert_eq!(error.message, expected);
            assert!(error.hint.contains("`1%` to `100%`"));
        }
    }

    proptest! {
        #[test]
        fn share_is_never_zero_and_never_above_the_total(percent in 1..=100_u8, total in 1..usize::MAX) {
            let of = Amount::Percent(percent).of(total);
            prop_assert!((1..=total).contains(&of));
            let exact = total as u128 * u128::from(percent) / 100;
            prop_assert_eq!(of as u128, exact.max(1));
        }
    }
}
