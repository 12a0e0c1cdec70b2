#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "systemd-analyze is asked on the machine of the test"
)]

use std::process::Command;

use jiff::ToSpan;
use jiff::civil::{DateTime, Weekday};

use super::*;

fn lines(text: &str) -> Vec<String> {
    Schedule::parse(text)
        .unwrap_or_else(|invalid| panic!("{}", invalid.message))
        .0
}

fn error(text: &str) -> String {
    Schedule::parse(text).unwrap_err().message
}

#[test]
fn cron_expressions_become_the_same_calendar_expressions() {
    for (cron, calendar) in [
        ("* * * * *", "*-*-* *:*:00"),
        ("0 3 * * *", "*-*-* 03:00:00"),
        ("*/15 * * * *", "*-*-* *:00/15:00"),
        ("5/15 * * * *", "*-*-* *:05/15:00"),
        ("0-20/5 0 * * *", "*-*-* 00:00,05,10,15,20:00"),
        ("1,2,3 4-6 * * *", "*-*-* 04..06:01..03:00"),
        ("0,30 */6 * * *", "*-*-* 00/6:00,30:00"),
        ("0-59 * * * *", "*-*-* *:*:00"),
        ("0 0 1 1 *", "*-01-01 00:00:00"),
        ("0 0 */2 * *", "*-*-01/2 00:00:00"),
        ("0 0 31 jan,MAR,December *", "*-01,03,12-31 00:00:00"),
        ("0 0 * * 0", "Sun *-*-* 00:00:00"),
        ("0 0 * * 7", "Sun *-*-* 00:00:00"),
        ("0 0 * * 0-6", "*-*-* 00:00:00"),
        ("0 0 * * 0-7", "*-*-* 00:00:00"),
        ("0 9 * * mon-fri", "Mon..Fri *-*-* 09:00:00"),
        ("0 9 * * 5-7", "Fri..Sun *-*-* 09:00:00"),
        ("0 9 * * Sun,wednesday", "Wed,Sun *-*-* 09:00:00"),
        ("0 9 * * */2", "Tue,Thu,Sat,Sun *-*-* 09:00:00"),
        ("\t0  3 * * * ", "*-*-* 03:00:00"),
        ("@hourly", "*-*-* *:00:00"),
        ("@daily", "*-*-* 00:00:00"),
        ("@midnight", "*-*-* 00:00:00"),
        // `weekly` of systemd would be Monday.
        ("@weekly", "Sun *-*-* 00:00:00"),
        ("@monthly", "*-*-01 00:00:00"),
        ("@yearly", "*-01-01 00:00:00"),
        ("@annually", "*-01-01 00:00:00"),
    ] {
        assert_eq!(lines(cron), [calendar], "{cron}");
    }
}

#[test]
fn either_kind_of_day_starts_a_job_that_restricts_both() {
    assert_eq!(
        lines("0 0 13 * 5"),
        ["Fri *-*-* 00:00:00", "*-*-13 00:00:00"]
    );
    // A field that begins with `*` does not count as restricted, also with a step.
    assert_eq!(lines("0 0 */10 * 5"), ["Fri *-*-01/10 00:00:00"]);
    assert_eq!(
        lines("0 0 1-31 * 1"),
        ["Mon *-*-* 00:00:00", "*-*-* 00:00:00"]
    );
    // The day never comes, the weekday does.
    assert_eq!(lines("0 0 31 2 1"), ["Mon *-02-* 00:00:00"]);
}

#[test]
fn what_is_no_schedule_is_refused_with_the_reason() {
    for (text, why) in [
        ("", "it is empty"),
        ("60 * * * *", "`60` is not the minute (0 to 59)"),
        ("* 24 * * *", "`24` is not the hour"),
        ("* * 0 * *", "`0` is not the day of the month"),
        ("* * * 13 *", "(1 to 12, or a name such as Jan)"),
        ("* * * * 8", "(0 to 7, or a name such as Sun)"),
        ("* * * foo *", "`foo` is not the month"),
        ("5-1 * * * *", "begins after its end"),
        ("*/0 * * * *", "no step between 1 and 59"),
        ("*/ * * * *", "no step"),
        ("1- * * * *", "`` is not the minute"),
        ("1,,2 * * * *", "`` is not the minute"),
        ("-1 * * * *", "`` is not the minute"),
        ("+1 * * * *", "`+1` is not the minute"),
        ("* * L * *", "`L` is not the day"),
        ("* * * * 5#2", "`5#2` is not the day"),
        ("* * ? * *", "`?` is not the day"),
        ("0 0 30 2 *", "no year has such a day"),
        ("0 0 31 4,6 *", "no year has such a day"),
        ("@reboot", "is a process, not a cron job"),
        ("@sometimes", "there are @hourly"),
        ("* * * *", "neither a date, a time nor a time zone"),
        ("0 0 3 * * *", "neither a date, a time nor a time zone"),
        ("daily 03:00", "stands alone"),
        ("tomorrow", "`tomorrow` is no day of the week"),
        ("UTC", "names no time"),
        ("*-*-* 25:00", "`25` in `25` is no hour"),
        ("*-13-*", "no month"),
        ("*-*-32", "no day"),
        ("12:00:61", "no second"),
        ("12:00/0", "no step"),
        ("00:0/60", "no step"),
        ("*-*-1/31", "no step"),
        ("*:*/5:00", "expected the first minute, such as `0/5`"),
        ("*-*~29", "no day"),
        ("Fri..Mon 12:00", "begins after its end"),
        ("20..10:00", "begins after its end"),
        ("*-*-*\nOnBootSec=1", "neither a date"),
        ("12:00 Europe/%h", "neither a date"),
    ] {
        let message = error(text);
        assert!(message.contains(why), "{text:?}: {message}");
    }
}

/// Expressions that systemd takes, with names, zones, lists, ranges, steps and days from the end of a month.
const CALENDARS: [&str; 20] = [
    "*:*:0/59",
    "00:1..5/60",
    "*-1/11-1/30",
    "*-*~28",
    "daily",
    "weekly UTC",
    "*:0/5",
    "*-*-* *:*:0/5",
    "Mon 12:00",
    "Mon,Wed..Fri 03:30",
    "Sat,Sun *-*-01..07 18:00:00",
    "*-02~03",
    "Mon *-05~07/1",
    "2027-01-01 00:00:00 Europe/Berlin",
    "01-15 08:00",
    "hourly",
    "quarterly",
    "Monday *-*-* 00:00",
    "*-*-1,15 6,18:00",
    "Tue *-*-* 04:00 America/New_York",
];

fn analyze(arguments: &[&str]) -> Option<String> {
    let (is_valid, text) = run_analyze(arguments)?;
    assert!(is_valid, "{arguments:?}: {text}");
    Some(text)
}

/// Whether systemd takes an expression, and what it prints.
fn run_analyze(arguments: &[&str]) -> Option<(bool, String)> {
    let done = Command::new("systemd-analyze")
        .env("TZ", "UTC")
        .env("LANG", "C.UTF-8")
        .arg("calendar")
        .args(arguments)
        .output();
    let Ok(done) = done else {
        crate::ports::testing::skip_test("schedules as systemd sees them", "needs systemd-analyze");
        return None;
    };
    let text = String::from_utf8(done.stdout).unwrap();
    Some((done.status.success(), text))
}

/// Components made of every kind of number, range and step, at both sides of each limit.
#[test]
fn calendar_expression_is_taken_exactly_if_systemd_takes_it() {
    let numbers = ["*", "*/2", "0", "1", "28", "29", "31", "60", "1..5", "5..1"];
    let steps = [
        "", "/0", "/11", "/12", "/23", "/24", "/30", "/31", "/59", "/60",
    ];
    for number in numbers {
        for step in steps {
            let part = format!("{number}{step}");
            for text in [
                format!("*-{part}-01"),
                format!("*-*-{part}"),
                format!("*-*~{part}"),
                format!("{part}:00"),
                format!("00:{part}"),
                format!("00:00:{part}"),
            ] {
                let Some((is_valid, printed)) = run_analyze(&[&text]) else {
                    return;
                };
                assert_eq!(
                    Schedule::parse(&text).is_ok(),
                    is_valid,
                    "{text}: {printed}"
                );
            }
        }
    }
}

#[test]
fn calendar_expressions_of_systemd_are_taken_as_they_are() {
    for text in CALENDARS {
        assert_eq!(lines(text), [text]);
        if analyze(&[text]).is_none() {
            return;
        }
    }
}

const START: &str = "2027-01-30T22:58:30";
const TIMES: usize = 12;

/// The next times of lines of `OnCalendar=`, as systemd computes them.
fn times_of_systemd(lines: &[String]) -> Option<Vec<DateTime>> {
    let mut times = Vec::new();
    let base = format!("--base-time={}", START.replace('T', " "));
    let iterations = format!("--iterations={TIMES}");
    for line in lines {
        let text = analyze(&[&base, &iterations, line])?;
        for row in text.lines() {
            let time = row.trim().strip_prefix("Next elapse:").or_else(|| {
                row.trim()
                    .strip_prefix("Iter. #")?
                    .split_once(':')
                    .map(|row| row.1)
            });
            let Some(time) = time.map(str::trim) else {
                continue;
            };
            // `Sun 2027-01-31 00:00:00 UTC`
            let words: Vec<&str> = time.split(' ').collect();
            times.push(format!("{}T{}", words[1], words[2]).parse().unwrap());
        }
    }
    times.sort_unstable();
    times.dedup();
    times.truncate(TIMES);
    Some(times)
}

/// The next times of a cron expression of numbers, found by trying each minute, as cron does.
fn times_of_cron(fields: [&str; 5]) -> Vec<DateTime> {
    let sets: Vec<Vec<i8>> = fields
        .iter()
        .zip([(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)])
        .map(|(field, (min, max))| {
            let mut numbers = Vec::new();
            for part in field.split(',') {
                let (range, step) = part.split_once('/').unwrap_or((part, "1"));
                let (first, last) = match range.split_once('-') {
                    _ if range == "*" => (min, max),
                    Some((first, last)) => (first.parse().unwrap(), last.parse().unwrap()),
                    None if part.contains('/') => (range.parse().unwrap(), max),
                    None => (range.parse().unwrap(), range.parse().unwrap()),
                };
                numbers.extend((first..=last).step_by(step.parse().unwrap()));
            }
            numbers
        })
        .collect();
    let is_free = |field: usize| fields[field].starts_with('*');
    let mut time: DateTime = START.parse().unwrap();
    time = time.with().second(0).build().unwrap();
    let end = time + 12.years();
    let mut times = Vec::new();
    while times.len() < TIMES && time < end {
        time += 1.minute();
        let weekday = match time.weekday() {
            Weekday::Sunday => 0,
            other => other.to_monday_one_offset(),
        };
        let is_day = sets[2].contains(&time.day());
        let is_weekday = sets[4].contains(&weekday) || (weekday == 0 && sets[4].contains(&7));
        let is_today = match is_free(2) || is_free(4) {
            true => is_day && is_weekday,
            false => is_day || is_weekday,
        };
        if !is_today || !sets[3].contains(&time.month()) {
            // On to the last minute of the day.
            time = time.with().hour(23).minute(59).build().unwrap();
        } else if sets[0].contains(&time.minute()) && sets[1].contains(&time.hour()) {
            times.push(time);
        }
    }
    times
}

/// Expressions made of every kind of field, compared with what cron itself would do.
#[test]
fn systemd_starts_a_job_at_the_times_of_its_cron_expression() {
    let minutes = ["*", "0", "*/7", "3,58", "10-20/5", "40/9"];
    let hours = ["*", "23", "*/5", "1-3", "0,12"];
    let days = ["*", "1", "31", "*/10", "13-15", "29,30"];
    let months = ["*", "2", "*/3", "1-3", "4,12"];
    let weekdays = ["*", "0", "7", "1-5", "*/3", "5,7", "2"];
    let mut seed: u32 = 1;
    let mut pick = |of: &[&'static str]| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        of[(seed >> 16) as usize % of.len()]
    };
    for _ in 0..150 {
        let fields = [
            pick(&minutes),
            pick(&hours),
            pick(&days),
            pick(&months),
            pick(&weekdays),
        ];
        let Ok(schedule) = Schedule::parse(&fields.join(" ")) else {
            assert!(times_of_cron(fields).is_empty(), "{fields:?}");
            continue;
        };
        let Some(found) = times_of_systemd(&schedule.0) else {
            return;
        };
        let expected = times_of_cron(fields);
        assert_eq!(
            found[..expected.len().min(found.len())],
            expected[..],
            "{fields:?}: {schedule:?}"
        );
    }
}
