//! Detection of missing passes. The outcome of the last pass means nothing once later passes should have run,
//! whatever prevented them.

use std::time::Duration;

use jiff::Timestamp;

use super::history::TIMER;
use super::pass_summary::PassSummary;
use crate::ports::lock::Holder;
use crate::ports::services::{NextTrigger, ServiceError, Timer};

/// Number of missed periods after which passes are overdue.
const MAX_MISSED_PERIODS: u32 = 3;

/// Period of the packaged timer, for a timer that was never queried successfully.
const DEFAULT_PERIOD: Duration = Duration::from_secs(19);

/// Time that the first pass may take to start after boot or after the start of the timer: it waits for the
/// network.
const FIRST_PASS_GRACE: Duration = Duration::from_secs(180);

/// Time that a running pass may take at least, however short the period of the timer is: it may be building.
const RUNNING_PASS_GRACE: Duration = Duration::from_secs(180);

/// Passes are overdue, or nothing starts the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Overdue {
    /// Time since the last pass ended, or since boot.
    silence: Duration,
    period: Duration,
    timer_is_off: bool,
    /// Three periods have passed.
    pub is_late: bool,
    /// No pass has run since boot.
    never: bool,
    /// The running pass that does not end.
    pub running: Option<Holder>,
}

/// Whether no pass ended for three periods of the timer, or the timer is off and so starts none. Returns `None` where no
/// timer is expected to start passes. `now` is wall time, `awake` the time of [`crate::ports::clock::monotonic_time`].
pub(crate) fn check_overdue(
    timer: &Result<Option<Timer>, ServiceError>,
    last: Option<&PassSummary>,
    running: Option<&Holder>,
    now: Timestamp,
    awake: Duration,
) -> Option<Overdue> {
    let remembered = last.and_then(|last| last.rhythm?.period());
    let (period, on_since, is_off) = match timer {
        // One that started passes until now was disabled since.
        Ok(Some(timer)) if timer.expected || remembered.is_some() => {
            let current = timer.period.map(|period| period + timer.max_delay);
            let period = current.or(remembered).unwrap_or(DEFAULT_PERIOD);
            (period, timer.active_since, timer.next == NextTrigger::Off)
        }
        Ok(_) => return None,
        // A systemd that does not answer may well not start passes either.
        Err(_) => (remembered?, None, false),
    };
    let limit = period.saturating_mul(MAX_MISSED_PERIODS);
    let ended = last.map(|last| ended_at(last, now, awake));
    let first = on_since
        .unwrap_or_default()
        .saturating_add(FIRST_PASS_GRACE);
    // A first pass gets its grace period, and so does a timer that was off until now.
    let expected = match ended {
        None => first,
        Some(ended) if on_since.is_some_and(|on| on > ended) => first,
        Some(ended) => ended,
    };
    let is_late = awake.saturating_sub(expected) > limit;
    // Soon after boot it may not be on yet.
    let is_off = is_off && (ended.is_some() || awake > FIRST_PASS_GRACE);
    if !is_late && (!is_off || running.is_some()) {
        return None;
    }
    if let Some(running) = running {
        let runs = now.duration_since(running.since);
        if Duration::try_from(runs).unwrap_or_default() <= limit.max(RUNNING_PASS_GRACE) {
            return None;
        }
    }
    Some(Overdue {
        silence: awake.saturating_sub(ended.unwrap_or_default()),
        period,
        timer_is_off: is_off,
        is_late,
        never: ended.is_none(),
        running: running.cloned(),
    })
}

/// When the last pass ended, on the clock of `awake`. Falls back to the wall clock for a summary without that
/// value.
fn ended_at(last: &PassSummary, now: Timestamp, awake: Duration) -> Duration {
    let recorded = last.ended_ms.map(Duration::from_millis);
    recorded.filter(|ended| *ended <= awake).unwrap_or_else(|| {
        let age = now.duration_since(last.started);
        let age = Duration::try_from(age).unwrap_or_default();
        awake.saturating_sub(age.saturating_sub(Duration::from_millis(last.took_ms)))
    })
}

impl Overdue {
    /// ``no pass for 12 min; trueup.timer makes one every 19 s: `systemctl status …` ``.
    pub(crate) fn words(&self) -> String {
        let silent = format_span(self.silence);
        let period = format_span(self.period);
        if let Some(running) = &self.running {
            return format!(
                "no pass has ended for {silent}; still running: {}: see `journalctl -u trueup _UID=0`",
                running.describe()
            );
        }
        if !self.is_late {
            return format!(
                "{TIMER}, which should start a pass every {period}, is off (the last one ended {silent} ago): `systemctl status {TIMER}`, then `systemctl enable --now {TIMER}`"
            );
        }
        let silence = match self.never {
            true => format!("no pass since boot, {silent} ago"),
            false => format!("no pass for {silent}"),
        };
        match self.timer_is_off {
            true => format!(
                "{silence}; {TIMER}, which should start one every {period}, is off: `systemctl status {TIMER}`, then `systemctl enable --now {TIMER}`"
            ),
            false => format!(
                "{silence}; {TIMER} should start one every {period}: see `systemctl status {TIMER} trueup.service` and `journalctl -u trueup _UID=0`"
            ),
        }
    }
}

fn format_span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds @ 7_200..=172_799 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use crate::report::pass_summary::TimerPeriod;

    const HOUR: Duration = Duration::from_secs(3600);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn now() -> Timestamp {
        "2026-11-21T05:00:00Z".parse().unwrap()
    }

    /// A pass that ended this many seconds before `awake`, which is one hour after boot.
    fn ended_seconds_ago(silent: u64) -> PassSummary {
        PassSummary {
            version: 1,
            started: now(),
            took_ms: 10,
            why: None,
            textfile: None,
            outcome: Exit::Converged,
            store_answered: None,
            good: None,
            ended_ms: Some(1000 * (3600 - silent)),
            rhythm: None,
            journalled: None,
            could_not_run: false,
        }
    }

    fn active_timer() -> Timer {
        Timer {
            next: NextTrigger::Underway,
            expected: true,
            period: Some(seconds(15)),
            max_delay: seconds(4),
            active_since: Some(seconds(5)),
        }
    }

    fn overdue_text(timer: Timer, last: Option<&PassSummary>) -> Option<String> {
        let overdue = check_overdue(&Ok(Some(timer)), last, None, now(), HOUR);
        overdue.map(|overdue| overdue.words())
    }

    #[test]
    fn three_periods_without_a_pass_are_overdue() {
        assert_eq!(
            overdue_text(active_timer(), Some(&ended_seconds_ago(57))),
            None
        );
        assert_eq!(
            overdue_text(active_timer(), Some(&ended_seconds_ago(720))).unwrap(),
            "no pass for 12 min; trueup.timer should start one every 19 s: see `systemctl status trueup.timer trueup.service` and `journalctl -u trueup _UID=0`"
        );
    }

    #[test]
    fn stopped_or_masked_timer_is_overdue_and_one_never_used_is_not() {
        let off = Timer {
            next: NextTrigger::Off,
            active_since: None,
            ..active_timer()
        };
        assert!(
            overdue_text(off, Some(&ended_seconds_ago(720)))
                .unwrap()
                .contains("is off: ")
        );
        let masked = Timer {
            period: None,
            max_delay: Duration::ZERO,
            ..off
        };
        // The unavailable timer has no period; the summary of the last pass has one.
        let mut last = ended_seconds_ago(720);
        assert!(overdue_text(masked, Some(&last)).is_some());
        last.rhythm = Some(TimerPeriod::new(Some(seconds(600)), HOUR));
        assert!(
            overdue_text(masked, Some(&last))
                .unwrap()
                .contains("a pass every 10 min")
        );
        let disabled = Timer {
            expected: false,
            ..off
        };
        assert_eq!(overdue_text(disabled, Some(&ended_seconds_ago(3000))), None);
        // It started the passes until it was disabled.
        last.rhythm = Some(TimerPeriod::new(Some(seconds(19)), HOUR));
        assert!(overdue_text(disabled, Some(&last)).is_some());
        assert_eq!(
            check_overdue(&Ok(None), Some(&last), None, now(), HOUR),
            None
        );
    }

    #[test]
    fn stopped_timer_is_reported_before_a_pass_is_missed() {
        let off = Timer {
            next: NextTrigger::Off,
            active_since: None,
            ..active_timer()
        };
        let words = overdue_text(off, Some(&ended_seconds_ago(12))).unwrap();
        assert!(
            words.starts_with(
                "trueup.timer, which should start a pass every 19 s, is off (the last one ended 12 s ago)"
            ),
            "{words}"
        );
        let mut last = ended_seconds_ago(12);
        let disabled = Timer {
            expected: false,
            ..off
        };
        assert_eq!(overdue_text(disabled, Some(&last)), None);
        last.rhythm = Some(TimerPeriod::new(Some(seconds(19)), HOUR));
        assert!(overdue_text(disabled, Some(&last)).is_some());
        // An operator runs a pass, or the host has only just booted.
        let running = Holder::current("ana".into(), "trueup converge".into(), now());
        let at = |running, last, awake| check_overdue(&Ok(Some(off)), last, running, now(), awake);
        assert_eq!(at(Some(&running), Some(&last), HOUR), None);
        assert_eq!(at(None, None, seconds(20)), None);
    }

    #[test]
    fn first_pass_after_boot_or_timer_start_has_a_grace_period() {
        assert!(
            overdue_text(active_timer(), None)
                .unwrap()
                .starts_with("no pass since boot, 60 min ago")
        );
        let early =
            |awake| check_overdue(&Ok(Some(active_timer())), None, None, now(), seconds(awake));
        assert!(early(200).is_none() && early(300).is_some());
        let started = Timer {
            active_since: Some(seconds(3590)),
            ..active_timer()
        };
        assert_eq!(overdue_text(started, Some(&ended_seconds_ago(3000))), None);
        assert_eq!(overdue_text(started, None), None);
    }

    #[test]
    fn suspend_and_clock_changes_are_not_missed_passes() {
        let mut last = ended_seconds_ago(20);
        last.started = "2026-11-01T00:00:00Z".parse().unwrap();
        assert_eq!(overdue_text(active_timer(), Some(&last)), None);
        // A clock that was set back hides nothing.
        last = ended_seconds_ago(720);
        last.started = "2027-01-01T00:00:00Z".parse().unwrap();
        assert!(overdue_text(active_timer(), Some(&last)).is_some());
    }

    #[test]
    fn running_pass_is_overdue_only_when_it_never_ends() {
        let runs = |since: &str| {
            let holder = Holder::current(
                "ana".into(),
                "trueup converge".into(),
                since.parse().unwrap(),
            );
            check_overdue(
                &Ok(Some(active_timer())),
                Some(&ended_seconds_ago(720)),
                Some(&holder),
                now(),
                HOUR,
            )
        };
        assert_eq!(runs("2026-11-21T04:58:00Z"), None);
        let words = runs("2026-11-21T04:00:00Z").unwrap().words();
        assert!(
            words.starts_with("no pass has ended for 12 min; still running: process "),
            "{words}"
        );
    }

    #[test]
    fn unreachable_systemd_does_not_hide_missed_passes() {
        let silent = || ServiceError::Unreachable {
            supervisor: "systemd",
            why: "no bus".into(),
        };
        let mut last = ended_seconds_ago(720);
        assert_eq!(
            check_overdue(&Err(silent()), Some(&last), None, now(), HOUR),
            None
        );
        last.rhythm = Some(TimerPeriod::new(Some(seconds(19)), HOUR));
        assert!(check_overdue(&Err(silent()), Some(&last), None, now(), HOUR).is_some());
    }
}
