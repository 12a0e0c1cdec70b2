//! Formats sizes and times for tables, and parses text that operators type.

use jiff::Timestamp;

use crate::pass::CronStatus;
use crate::ports::processes::own_user_name;
use crate::printable;
use crate::report::Paint;

/// Age: `45s`, `12m`, `7h`, `3d`; `0s` for a time in the future.
pub(super) fn format_age(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The last and the next run of a cron job.
pub(super) fn cron_text(job: &CronStatus, now: Timestamp, paint: Paint) -> String {
    if let Some(why) = &job.why {
        return paint.bad(&printable::line(why));
    }
    let last = job.last.map(|last| format_age(last, now));
    let last = match (last, &job.failure) {
        (Some(age), _) if job.running => format!("running, started {age} ago"),
        (None, _) if job.running => "running".into(),
        (Some(age), Some(why)) => {
            let why = printable::line(why);
            paint.bad(&format!("last run {age} ago failed: {why}"))
        }
        (None, Some(why)) => paint.bad(&format!("last run failed: {}", printable::line(why))),
        (Some(age), None) => format!("last run {age} ago"),
        (None, None) => "not run yet".into(),
    };
    match job.next {
        // The distance of a future time is the age of now as seen from it.
        Some(next) => format!(
            "{last}; next {} (in {})",
            next.strftime("%F %T UTC"),
            format_age(now, next)
        ),
        None if job.running => last,
        None => format!("{last}; {}", paint.changed("no next run is planned")),
    }
}

/// `640 B`, `12.3 MiB`.
pub(super) fn format_bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[allow(clippy::cast_precision_loss, reason = "one digit is shown")]
    let mut value = bytes as f64 / 1024.0;
    let mut unit = units[0];
    for larger in &units[1..] {
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    format!("{value:.1} {unit}")
}

/// `240 ms`, `12.3 s`, `4 min 5 s`.
pub(super) fn format_duration(millis: u64) -> String {
    match millis {
        0..=999 => format!("{millis} ms"),
        1_000..=119_999 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        _ => format!("{} min {} s", millis / 60_000, millis % 60_000 / 1000),
    }
}

/// Validates free text from an operator: one line; empty (an unset variable in CI) is the same as absent.
pub(super) fn parse_one_line(
    option: &str,
    value: Option<&str>,
) -> Result<Option<String>, crate::problem::Problem> {
    let value = value.map(str::trim).filter(|value| !value.is_empty());
    if value.is_some_and(|value| value.contains(char::is_control)) {
        let why = format!("{option}: expected one line of text");
        return Err(crate::problem::Problem::new(why));
    }
    Ok(value.map(str::to_owned))
}

/// The operator's name, as a script sets it or sudo passes it on; otherwise the user of this process.
#[expect(
    clippy::disallowed_methods,
    reason = "cli reads the environment and passes values on"
)]
pub(super) fn current_user() -> String {
    ["TRUEUP_BY", "SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|name| !name.is_empty() && !name.contains(char::is_control))
        .unwrap_or_else(own_user_name)
}

/// Who started this process: a person or a systemd unit.
pub(super) fn started_by() -> String {
    person().or_else(unit).unwrap_or_else(current_user)
}

/// Whether a person started this process, and not a systemd unit.
pub(super) fn is_started_by_hand() -> bool {
    person().is_some() || unit().is_none()
}

/// The person who started this process, if it is known.
fn person() -> Option<String> {
    variable("TRUEUP_BY").or_else(|| variable("SUDO_USER"))
}

/// The unit that this process belongs to. Older systemd does not say which one.
fn unit() -> Option<String> {
    variable("TRIGGER_UNIT").or_else(|| variable("INVOCATION_ID").map(|_| "systemd".into()))
}

#[expect(
    clippy::disallowed_methods,
    reason = "cli reads the environment and passes values on"
)]
fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok()?;
    let plain = !value.is_empty() && !value.contains(char::is_control);
    plain.then_some(value)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn sizes_and_durations_are_rounded_down_in_the_right_unit() {
        let sizes = [0, 1023, 1024, 1536, (1 << 20) - 1, 5 << 30, u64::MAX];
        assert_eq!(
            sizes.map(format_bytes),
            [
                "0 B",
                "1023 B",
                "1.0 KiB",
                "1.5 KiB",
                "1.0 MiB",
                "5.0 GiB",
                "16777216.0 TiB"
            ]
        );
        let now: Timestamp = "2026-11-21T05:00:00Z".parse().unwrap();
        let ages = [-5, 0, 119, 120, 7_200, 172_799, 172_800];
        assert_eq!(
            ages.map(|seconds| format_age(now - SignedDuration::from_secs(seconds), now)),
            ["0s", "0s", "119s", "2m", "2h", "47h", "2d"]
        );
        let times = [0, 999, 1_050, 119_999, 245_000];
        assert_eq!(
            times.map(format_duration),
            ["0 ms", "999 ms", "1.0 s", "119.9 s", "4 min 5 s"]
        );
    }
}
