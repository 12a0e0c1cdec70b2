//! Calendar expressions of systemd.time(7), checked before systemd meets them: it ignores a line of `OnCalendar=` that it
//! does not understand, and the job would never run.

use super::names::{WEEKDAYS, name_index};

const SHORTHANDS: [&str; 10] = [
    "minutely",
    "hourly",
    "daily",
    "weekly",
    "monthly",
    "quarterly",
    "semiannually",
    "biannually",
    "yearly",
    "annually",
];

/// Checks `[WEEKDAYS] [DATE] [TIME] [TIME ZONE]`.
pub(super) fn validate(words: &[&str]) -> Result<(), String> {
    let mut rest = words;
    let mut take = |is_part: &dyn Fn(&str) -> bool| match rest {
        [first, after @ ..] if is_part(first) => {
            rest = after;
            Some(*first)
        }
        _ => None,
    };
    let shorthand = take(&|word| SHORTHANDS.contains(&word));
    let weekdays = match shorthand {
        Some(_) => None,
        None => take(&|word| word.starts_with(|c: char| c.is_ascii_alphabetic()) && !is_zone(word)),
    };
    let date = take(&|word| {
        !word.contains(':') && word.contains(['-', '~']) && !word.starts_with(char::is_alphabetic)
    });
    let time = take(&|word| word.contains(':'));
    let zone = take(&is_zone);
    if let Some(word) = rest.first() {
        return Err(format!(
            "`{word}` is neither a date, a time nor a time zone"
        ));
    }
    if shorthand.is_some() && (date.is_some() || time.is_some()) {
        return Err("a word such as `daily` stands alone".into());
    }
    if shorthand.or(weekdays).or(date).or(time).is_none() {
        return Err(format!("`{}` names no time", zone.unwrap_or_default()));
    }
    weekdays.map_or(Ok(()), validate_weekdays)?;
    date.map_or(Ok(()), validate_date)?;
    time.map_or(Ok(()), validate_time)
}

/// `UTC`, `Europe/Berlin`. A weekday has no slash and is not `UTC`.
fn is_zone(word: &str) -> bool {
    let usable = |c: char| c.is_ascii_alphanumeric() || "/_+-".contains(c);
    word == "UTC"
        || (word.contains('/') && word.starts_with(char::is_alphabetic) && word.chars().all(usable))
}

fn validate_weekdays(word: &str) -> Result<(), String> {
    let word = word.strip_suffix(',').unwrap_or(word);
    let day = |name: &str| {
        name_index(&WEEKDAYS, name).ok_or_else(|| format!("`{name}` is no day of the week"))
    };
    for part in word.split(',') {
        let (first, last) = match part.split_once("..").or_else(|| part.split_once('-')) {
            Some((first, last)) => (day(first)?, day(last)?),
            None => (day(part)?, day(part)?),
        };
        // The week begins on Monday.
        if (first + 6) % 7 > (last + 6) % 7 {
            return Err(format!("`{part}` begins after its end"));
        }
    }
    Ok(())
}

/// `[YEAR-]MONTH-DAY`, or with `~` days before the end of the month.
fn validate_date(word: &str) -> Result<(), String> {
    let not_a_date = || format!("`{word}` is no date: expected such as `*-*-01`");
    let (months, day) = match word.split_once('~') {
        Some(parts) => parts,
        None => word.rsplit_once('-').ok_or_else(not_a_date)?,
    };
    let (year, month) = match months.split_once('-') {
        Some((year, month)) => (Some(year), month),
        None => (None, months),
    };
    if month.contains(['-', '~']) || day.contains('~') {
        return Err(not_a_date());
    }
    if let Some(year) = year {
        validate_component(year, &YEAR)?;
    }
    validate_component(month, &MONTH)?;
    match word.contains('~') {
        true => validate_component(day, &DAY_FROM_END),
        false => validate_component(day, &DAY),
    }
}

/// `HOUR:MINUTE[:SECOND]`.
fn validate_time(word: &str) -> Result<(), String> {
    let parts: Vec<&str> = word.split(':').collect();
    let (hour, minute, second) = match parts[..] {
        [hour, minute] => (hour, minute, "0"),
        [hour, minute, second] => (hour, minute, second),
        _ => return Err(format!("`{word}` is no time: expected such as `03:00`")),
    };
    validate_component(hour, &HOUR)?;
    validate_component(minute, &MINUTE)?;
    validate_component(second, &SECOND)
}

/// What a component of a date or a time may be.
struct Component {
    name: &'static str,
    min: u32,
    max: u32,
    /// It counts from the end of the month, so that steps go down.
    goes_down: bool,
}

impl Component {
    const fn up(name: &'static str, min: u32, max: u32) -> Component {
        Component {
            name,
            min,
            max,
            goes_down: false,
        }
    }

    /// The longest step from a number: at least one more has to follow it.
    fn longest_step(&self, first: u32) -> u32 {
        match self.goes_down {
            true => first - self.min,
            false => self.max - first,
        }
    }
}

const YEAR: Component = Component::up("year", 1970, 2199);
const MONTH: Component = Component::up("month", 1, 12);
const DAY: Component = Component::up("day", 1, 31);
/// The first of February is 28 days from its end.
const DAY_FROM_END: Component = Component {
    goes_down: true,
    ..Component::up("day", 1, 28)
};
const HOUR: Component = Component::up("hour", 0, 23);
const MINUTE: Component = Component::up("minute", 0, 59);
const SECOND: Component = Component::up("second", 0, 59);

/// `*`, or a list of `5`, `1..5`, each perhaps with a step: `0/15`. systemd knows no `*/15`.
fn validate_component(text: &str, of: &Component) -> Result<(), String> {
    if text == "*" {
        return Ok(());
    }
    let Component { name, min, max, .. } = of;
    let number = |word: &str| {
        let digits =
            !word.is_empty() && word.len() <= 4 && word.bytes().all(|c| c.is_ascii_digit());
        let number = digits.then(|| word.parse::<u32>().ok()).flatten();
        number
            .filter(|number| (min..=max).contains(&number))
            .ok_or_else(|| format!("`{word}` in `{text}` is no {name} ({min} to {max})"))
    };
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        if range == "*" {
            return Err(format!(
                "`{text}` begins with `*`: expected the first {name}, such as `{min}/5`"
            ));
        }
        let longest = match range.split_once("..") {
            Some((first, last)) if number(first)? > number(last)? => {
                return Err(format!("`{range}` of the {name} begins after its end"));
            }
            // After the end of a range systemd takes any step.
            Some(_) => 9999,
            None => of.longest_step(number(range)?),
        };
        let is_step = |step: &str| {
            let step = step.parse::<u32>();
            step.is_ok_and(|step| (1..=longest).contains(&step))
        };
        if let Some(step) = step.filter(|step| !is_step(step)) {
            return Err(match longest {
                0 => format!("`{text}` has a step, and no {name} follows `{range}`"),
                _ => format!(
                    "`{step}` in `{text}` is no step of the {name}: expected 1 to {longest}"
                ),
            });
        }
    }
    Ok(())
}
