//! Cron expressions, as crontab(5) defines them.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::names::{WEEKDAYS, name_index};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The days of the months, in a leap year.
const DAYS_IN_MONTH: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// What may be in a field.
struct FieldKind {
    what: &'static str,
    min: u32,
    max: u32,
    names: &'static [&'static str],
    /// The number of the first name.
    first_name: u32,
}

const MINUTE: FieldKind = FieldKind::numbers("the minute", 0, 59);
const HOUR: FieldKind = FieldKind::numbers("the hour", 0, 23);
const DAY: FieldKind = FieldKind::numbers("the day of the month", 1, 31);
const MONTH: FieldKind = FieldKind {
    names: &MONTHS,
    first_name: 1,
    ..FieldKind::numbers("the month", 1, 12)
};
/// 7 is Sunday as well.
const WEEKDAY: FieldKind = FieldKind {
    names: &WEEKDAYS,
    ..FieldKind::numbers("the day of the week", 0, 7)
};

impl FieldKind {
    const fn numbers(what: &'static str, min: u32, max: u32) -> FieldKind {
        FieldKind {
            what,
            min,
            max,
            names: &[],
            first_name: 0,
        }
    }
}

/// A field: the numbers that it lists.
struct Field {
    numbers: BTreeSet<u32>,
    /// It begins with `*`, so that it does not restrict the days on its own: cron's rule for the two fields of days.
    is_star: bool,
}

/// The lines for `@daily` and its like.
pub(super) fn from_nickname(word: &str) -> Result<Vec<String>, String> {
    let fields = match word {
        "@hourly" => "0 * * * *",
        "@daily" | "@midnight" => "0 0 * * *",
        "@weekly" => "0 0 * * 0",
        "@monthly" => "0 0 1 * *",
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@reboot" => {
            return Err("what is to run while the host is up is a process, not a cron job".into());
        }
        _ => {
            return Err(
                "there are @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually"
                    .into(),
            );
        }
    };
    let fields: Vec<&str> = fields.split(' ').collect();
    let [minute, hour, day, month, weekday] = fields[..] else {
        return Err("it has no five fields".into());
    };
    to_calendar([minute, hour, day, month, weekday])
}

/// The calendar expressions that together mean the same.
pub(super) fn to_calendar(fields: [&str; 5]) -> Result<Vec<String>, String> {
    let [minute, hour, day, month, weekday] = fields;
    let minute = parse_field(minute, &MINUTE)?;
    let hour = parse_field(hour, &HOUR)?;
    let day = parse_field(day, &DAY)?;
    let month = parse_field(month, &MONTH)?;
    let mut weekday = parse_field(weekday, &WEEKDAY)?;
    if weekday.numbers.remove(&7) {
        weekday.numbers.insert(0);
    }
    let time = format!(
        "{}:{}:00",
        component(&hour.numbers, &HOUR),
        component(&minute.numbers, &MINUTE)
    );
    let months = component(&month.numbers, &MONTH);
    let of_month = |days: &str| format!("*-{months}-{days} {time}");
    let of_days = || of_month(&component(&day.numbers, &DAY));
    let of_weekdays = |date: String| match weekdays(&weekday.numbers) {
        Some(names) => format!("{names} {date}"),
        None => date,
    };
    let has_day = month.numbers.iter().any(|month| {
        let last = DAYS_IN_MONTH.get(*month as usize - 1).copied();
        day.numbers.first() <= last.as_ref()
    });
    if !day.is_star && !weekday.is_star {
        // Either is enough.
        let mut lines = vec![of_weekdays(of_month("*"))];
        lines.extend(has_day.then(of_days));
        return Ok(lines);
    }
    if !has_day {
        return Err("no year has such a day".into());
    }
    Ok(vec![of_weekdays(of_days())])
}

fn parse_field(text: &str, kind: &FieldKind) -> Result<Field, String> {
    let mut numbers = BTreeSet::new();
    for part in text.split(',') {
        numbers.extend(parse_part(part, kind)?);
    }
    Ok(Field {
        numbers,
        is_star: text.starts_with('*'),
    })
}

/// `*`, `5`, `1-5`, and with a step `*/10`, `1-5/2`, `3/10` (from 3 on).
fn parse_part(part: &str, kind: &FieldKind) -> Result<Vec<u32>, String> {
    let what = kind.what;
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (part, None),
    };
    let (first, last) = match range.split_once('-') {
        _ if range == "*" => (kind.min, kind.max),
        Some((first, last)) => (parse_value(first, kind)?, parse_value(last, kind)?),
        None => {
            let first = parse_value(range, kind)?;
            (first, if step.is_some() { kind.max } else { first })
        }
    };
    if first > last {
        return Err(format!("`{part}` of {what} begins after its end"));
    }
    let step = match step {
        None => 1,
        Some(step) => step
            .parse::<u32>()
            .ok()
            .filter(|step| (1..=kind.max).contains(step))
            .ok_or_else(|| format!("`{part}` of {what} has no step between 1 and {}", kind.max))?,
    };
    Ok((first..=last).step_by(step as usize).collect())
}

fn parse_value(word: &str, kind: &FieldKind) -> Result<u32, String> {
    let is_number = !word.is_empty() && word.len() <= 2 && word.bytes().all(|c| c.is_ascii_digit());
    let number = match is_number {
        true => word.parse().ok(),
        false => name_index(kind.names, word).map(|at| at + kind.first_name),
    };
    let number = number.filter(|number| (kind.min..=kind.max).contains(number));
    number.ok_or_else(|| {
        let names = match kind.names.first() {
            Some(name) => format!(", or a name such as {}", &name[..3]),
            None => String::new(),
        };
        format!(
            "`{word}` is not {} ({} to {}{names})",
            kind.what, kind.min, kind.max
        )
    })
}

/// The shortest way to write these numbers in a calendar expression.
fn component(numbers: &BTreeSet<u32>, kind: &FieldKind) -> String {
    let list: Vec<u32> = numbers.iter().copied().collect();
    let (Some(first), Some(last)) = (list.first(), list.last()) else {
        return "*".into();
    };
    if list.len() as u32 == kind.max - kind.min + 1 {
        return "*".into();
    }
    if let [_, second, _, ..] = list[..] {
        let step = second - first;
        let is_even = list.windows(2).all(|pair| pair[1] - pair[0] == step);
        if is_even && step == 1 {
            return format!("{first:02}..{last:02}");
        }
        // systemd goes on to the end of the range.
        if is_even && last + step > kind.max {
            return format!("{first:02}/{step}");
        }
    }
    let mut text = String::new();
    for number in &list {
        let comma = if text.is_empty() { "" } else { "," };
        let _ = write!(text, "{comma}{number:02}");
    }
    text
}

/// The names of these days, from Monday on; `None`: all of them.
fn weekdays(numbers: &BTreeSet<u32>) -> Option<String> {
    if numbers.len() == WEEKDAYS.len() {
        return None;
    }
    // systemd's week begins on Monday.
    let mut days: Vec<u32> = numbers.iter().map(|day| (day + 6) % 7).collect();
    days.sort_unstable();
    let name = |day: u32| &WEEKDAYS[(day as usize + 1) % 7][..3];
    let is_run = days.windows(2).all(|pair| pair[1] == pair[0] + 1);
    Some(match days[..] {
        [first, _, .., last] if is_run => format!("{}..{}", name(first), name(last)),
        _ => days
            .iter()
            .map(|day| name(*day))
            .collect::<Vec<_>>()
            .join(","),
    })
}
