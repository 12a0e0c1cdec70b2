//! Times in the notations that people write.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::de::{self, Deserialize, Deserializer};

use crate::problem::InvalidValue;

/// A time with its zone (RFC 3339).
pub(crate) fn deserialize_optional_time<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Timestamp>, D::Error> {
    deserialize_optional(deserializer, parse_time)
}

/// A time with its zone, or a date: the end of that day, in UTC.
pub(crate) fn deserialize_optional_end<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Timestamp>, D::Error> {
    deserialize_optional(deserializer, parse_end)
}

fn deserialize_optional<'de, D: Deserializer<'de>>(
    deserializer: D,
    parse: fn(&str) -> Result<Timestamp, InvalidValue>,
) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| parse(text.trim()))
        .transpose()
        .map_err(de::Error::custom)
}

fn parse_time(text: &str) -> Result<Timestamp, InvalidValue> {
    parse_with_zone(text, "expected such as `2026-11-29T18:00:00Z` (RFC 3339)")
}

/// A time with its zone, or a date: the end of that day, in UTC.
pub(crate) fn parse_end(text: &str) -> Result<Timestamp, InvalidValue> {
    if let Some(end) = parse_day(text).and_then(end_of_day) {
        return Ok(end);
    }
    parse_with_zone(
        text,
        "expected such as `2026-11-29T18:00:00Z`, or a date, `2026-11-29`, for the end of that day in UTC",
    )
}

fn parse_with_zone(text: &str, expected: &str) -> Result<Timestamp, InvalidValue> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if text.contains(':') && text.parse::<DateTime>().is_ok() {
        return Err(InvalidValue::new(
            format!("`{text}` has no time zone"),
            format!("write `{text}Z` for UTC, or another offset, as in `{text}+01:00`"),
        ));
    }
    Err(InvalidValue::new(
        format!("`{text}` is not a time"),
        expected,
    ))
}

/// Only a date: jiff reads it from a time as well.
fn parse_day(text: &str) -> Option<Date> {
    let is_date = text.len() == "2026-11-29".len();
    text.parse().ok().filter(|_| is_date)
}

fn end_of_day(day: Date) -> Option<Timestamp> {
    let next = day.checked_add(1.day()).ok()?;
    let midnight = next.to_zoned(TimeZone::UTC).ok()?;
    Some(midnight.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_is_a_time_with_its_zone_or_the_end_of_a_day() {
        for (text, expected) in [
            ("2026-11-29", Ok("2026-11-30T00:00:00Z")),
            ("2028-02-29", Ok("2028-03-01T00:00:00Z")),
            ("2026-11-29T18:00:00Z", Ok("2026-11-29T18:00:00Z")),
            ("2026-11-29T18:00+01:00", Ok("2026-11-29T17:00:00Z")),
            (
                "2026-11-29T18:00",
                Err("`2026-11-29T18:00` has no time zone"),
            ),
            (
                "2026-11-29 18:00:00",
                Err("`2026-11-29 18:00:00` has no time zone"),
            ),
            ("2026-02-30", Err("`2026-02-30` is not a time")),
            ("9999-12-31", Err("`9999-12-31` is not a time")),
            ("tomorrow", Err("`tomorrow` is not a time")),
            ("", Err("`` is not a time")),
        ] {
            let end = parse_end(text).map(|end| end.to_string());
            let end = end.map_err(|problem| problem.message);
            assert_eq!(end.as_deref().map_err(String::as_str), expected);
        }
        let unclear = parse_end("2026-11-29T18:00").unwrap_err();
        assert!(
            unclear.hint.contains("`2026-11-29T18:00Z`"),
            "{}",
            unclear.hint
        );
    }
}
