//! Times at which a cron job runs: a cron expression, or a calendar expression of systemd; both become lines of
//! `OnCalendar=`.
//!
//! The two languages differ where it hurts: Sunday is 0 or 7 in cron and a name in systemd, `@weekly` is Sunday in cron
//! and `weekly` is Monday in systemd, and a cron job with a day of the month *and* a day of the week runs on both kinds of
//! days, which takes two lines.

mod calendar;
mod cron;
mod names;

use serde::de::{self, Deserialize, Deserializer};

use crate::problem::InvalidValue;

const EXPECTED: &str = "expected five fields as in crontab(5), such as `0 3 * * *`, `@daily`, or a calendar \
                        expression of systemd.time(7), such as `Mon..Fri *-*-* 03:00:00`";

/// When a cron job runs: the values of `OnCalendar=`, any of which starts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Schedule(pub Vec<String>);

impl Schedule {
    fn parse(text: &str) -> Result<Schedule, InvalidValue> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let invalid =
            |why: String| InvalidValue::new(format!("`{text}` is no schedule: {why}"), EXPECTED);
        let lines = match words[..] {
            [] => Err("it is empty".to_owned()),
            [word] if word.starts_with('@') => cron::from_nickname(word),
            [minute, hour, day, month, weekday] => {
                cron::to_calendar([minute, hour, day, month, weekday])
            }
            _ => calendar::validate(&words).map(|()| vec![words.join(" ")]),
        };
        lines.map(Schedule).map_err(invalid)
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Schedule, D::Error> {
        let text = String::deserialize(deserializer)?;
        Schedule::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
