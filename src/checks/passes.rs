//! Checks of the passes on this host: the last good one, the next one, and what is owed.

use std::time::Duration;

use jiff::Timestamp;

use super::{Check, bad, note};
use crate::exit::Exit;
use crate::plan::{self, PlannedOutcome, Selection};
use crate::ports::lock::{self, Holder};
use crate::ports::services::{NextTrigger, ServiceError, Timer, timer};
use crate::ports::{Host, clock};
use crate::problem::Problem;
use crate::report::{History, PassSummary, TIMER, check_overdue};
use crate::role::Catalog;

/// Reports obligations that no pass has paid. Skipped while a pass runs, because that one may still pay them.
pub(super) fn check_owed(
    catalog: &Catalog,
    host: &Host,
    running: Option<&Holder>,
    announce: &mut dyn FnMut(Check),
) {
    if running.is_some() {
        announce(note("owed", "not checked while a pass is running"));
        return;
    }
    if host.root.is_ordinary_user() {
        announce(note("owed", "only root can see what is owed"));
        return;
    }
    let plan = plan::build_plan(catalog, host, &Selection::all());
    // An obligation caused only by changes that are still pending belongs to those changes.
    let is_to_come = |id: &String| {
        let step = plan.steps.iter().find(|step| step.id == *id);
        step.is_some_and(|step| matches!(step.outcome, PlannedOutcome::Change(_)))
    };
    let (mut owed, mut withheld) = (Vec::new(), Vec::new());
    for step in &plan.steps {
        for obligation in &step.obligations {
            let duty = format!("{} of {}", obligation.duty, step.id);
            match &step.outcome {
                _ if !obligation.causes.is_empty() && obligation.causes.iter().all(is_to_come) => {}
                PlannedOutcome::Waiting(_, why) => withheld.push(format!("{duty}: {why}")),
                _ => owed.push(duty),
            }
        }
    }
    // A pass may have started in the meantime.
    if !owed.is_empty() && lock::read_holder(&host.root).is_some() {
        announce(note("owed", "not checked while a pass is running"));
        return;
    }
    announce(match (owed.as_slice(), withheld.as_slice()) {
        ([], []) => Check::good("owed", "nothing is owed"),
        ([], withheld) => note("owed", format!("withheld: {}", withheld.join(", "))),
        (owed, _) => bad(
            "owed",
            format!("still owed: {}", owed.join(", ")),
            "the next pass does it: `trueup converge`; if not, `trueup status` shows why",
        ),
    });
}

/// Reports when a pass last converged.
pub(super) fn check_last_pass(
    host: &Host,
    running: Option<&Holder>,
    announce: &mut dyn FnMut(Check),
) {
    let passes = PassTiming {
        timer: timer(&host.root, &host.exec, TIMER),
        last: History::new(host).last(),
        running: running.cloned(),
        now: host.clock.now(),
        awake: clock::monotonic_time(),
    };
    announce(passes.check());
}

/// What is known about the timing of this host's passes.
struct PassTiming {
    /// Since boot.
    last: Option<PassSummary>,
    running: Option<Holder>,
    /// The timer that starts them.
    timer: Result<Option<Timer>, ServiceError>,
    now: Timestamp,
    awake: Duration,
}

impl PassTiming {
    fn check(&self) -> Check {
        let about = "last pass";
        let good = self.last.as_ref().map(|last| match last.good {
            Some(good) => self.format_ago(good),
            None => "never since boot".into(),
        });
        if let Some(holder) = &self.running {
            let good = good.unwrap_or("none since boot".into());
            let message = format!(
                "running now: {}; the last good one: {good}",
                holder.describe()
            );
            return note(about, message);
        }
        let (Some(last), Some(good)) = (&self.last, good) else {
            let message = "none since boot";
            let ticks = matches!(&self.timer, Ok(Some(timer)) if timer.next != NextTrigger::Off);
            return match ticks {
                true => bad(
                    about,
                    message,
                    "`journalctl -u trueup _UID=0` shows how the timer's passes end",
                ),
                false => note(about, format!("{message}; `trueup converge` runs one")),
            };
        };
        let ended = match (last.outcome, &last.why) {
            (Exit::Converged, _) => None,
            (outcome, Some(why)) => Some(format!("outcome {}: {why}", outcome.word())),
            (outcome, None) => Some(format!("outcome {}", outcome.word())),
        };
        // Waiting is intended, and after a stop the next pass resumes.
        let is_fault = !matches!(
            last.outcome,
            Exit::Converged | Exit::Waiting | Exit::Stopped
        );
        if let Some(ended) = ended.as_ref().filter(|_| is_fault) {
            return bad(
                about,
                format!("{ended}; the last good one: {good}"),
                "`trueup status` shows why",
            );
        }
        // A timer that is off is the next check's matter.
        let overdue = check_overdue(&self.timer, Some(last), None, self.now, self.awake);
        if let Some(overdue) = overdue.filter(|overdue| overdue.is_late) {
            let message = match &ended {
                Some(ended) => format!("{}, {ended}", self.format_ago(last.started)),
                None => format!("the last good one: {good}"),
            };
            return bad(about, message, overdue.words());
        }
        if let Some(ended) = ended {
            let problem = Problem::new(format!("{ended}; the last good one: {good}"));
            return Check::note(about, problem.hint("`trueup status` shows more"));
        }
        Check::good(about, format!("the last good one: {good}"))
    }

    fn format_ago(&self, when: Timestamp) -> String {
        let ago = self.now.duration_since(when).as_secs().max(0);
        format!("{}, {ago} s ago", when.strftime("%F %T UTC"))
    }
}

/// Reports what starts the next pass.
pub(super) fn check_next_pass(host: &Host, announce: &mut dyn FnMut(Check)) {
    let about = "next pass";
    let timer = timer(&host.root, &host.exec, TIMER);
    announce(match timer.map(|timer| timer.map(|timer| timer.next)) {
        Ok(Some(NextTrigger::At(at))) => {
            let seconds = at.duration_since(host.clock.now()).as_secs().max(0);
            Check::good(about, format!("{TIMER}, in {seconds} s"))
        }
        Ok(Some(NextTrigger::Underway)) => Check::good(about, format!("{TIMER}; one is running")),
        Ok(Some(NextTrigger::Off)) => bad(
            about,
            format!("{TIMER} is off"),
            format!("`systemctl enable --now {TIMER}`, unless an operator stopped it on purpose"),
        ),
        Ok(None) => note(about, format!("nothing starts passes: there is no {TIMER}")),
        Err(error) => note(about, format!("cannot determine it: {error}")),
    });
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn last_pass(
        outcome: Exit,
        started: &str,
        took_s: u64,
        good: Option<&str>,
    ) -> Option<PassSummary> {
        Some(PassSummary {
            version: 1,
            started: at(started),
            took_ms: took_s * 1000,
            why: None,
            textfile: None,
            outcome,
            store_answered: None,
            good: good.map(at),
            ended_ms: None,
            rhythm: None,
            journalled: None,
            could_not_run: false,
        })
    }

    fn timing(last: Option<PassSummary>, ticks: bool) -> PassTiming {
        PassTiming {
            last,
            running: None,
            timer: Ok(ticks.then_some(Timer {
                next: NextTrigger::Underway,
                expected: true,
                period: Some(Duration::from_secs(30)),
                max_delay: Duration::from_secs(6),
                active_since: None,
            })),
            now: at("2026-11-21T05:00:00Z"),
            awake: Duration::from_secs(86_400),
        }
    }

    #[test]
    fn waiting_host_is_a_note_with_its_reason() {
        let started = "2026-11-21T04:59:50Z";
        let mut waiting = timing(
            last_pass(Exit::Waiting, started, 1, Some("2026-11-21T03:00:00Z")),
            true,
        );
        waiting.last.as_mut().unwrap().why = Some("code: held: no deploys today".into());
        let check = waiting.check();
        assert!(matches!(check.verdict, Verdict::Note(_)), "{check:?}");
        assert!(
            check.message().starts_with(
                "outcome waiting: code: held: no deploys today; the last good one: 2026-11-21 03:00"
            ),
            "{check:?}"
        );
        let stopped = timing(last_pass(Exit::Stopped, started, 1, None), true);
        assert!(!stopped.check().is_bad());
        // A timer that stopped for another reason is bad.
        let inactive = timing(
            last_pass(Exit::Waiting, "2026-11-21T03:00:00Z", 1, None),
            true,
        );
        assert!(inactive.check().is_bad());
    }

    #[test]
    fn running_pass_is_a_note_that_names_its_holder() {
        let since = at("2026-11-21T04:00:00Z");
        let holder = Holder::current("trueup.service".into(), "trueup converge".into(), since);
        let failed = last_pass(Exit::Failed, "2026-11-21T03:00:00Z", 1, None);
        for last in [
            None,
            failed,
            last_pass(Exit::Converged, "2026-11-21T03:00:00Z", 1, None),
        ] {
            let running = PassTiming {
                running: Some(holder.clone()),
                ..timing(last, true)
            };
            let check = running.check();
            assert!(matches!(check.verdict, Verdict::Note(_)), "{check:?}");
            assert!(
                check
                    .message()
                    .contains("trueup converge by trueup.service, since 04:00:00 UTC"),
                "{check:?}"
            );
        }
    }

    #[test]
    fn long_pass_is_aged_from_its_end() {
        let started = "2026-11-21T04:00:00Z";
        let long = timing(
            last_pass(Exit::Converged, started, 59 * 60, Some(started)),
            true,
        );
        assert!(!long.check().is_bad());
    }

    #[test]
    fn old_pass_fails_only_where_a_timer_is_active() {
        let minute = "2026-11-21T04:59:00Z";
        let fresh = last_pass(Exit::Converged, minute, 0, Some(minute));
        let hour = "2026-11-21T04:00:00Z";
        let old = last_pass(Exit::Converged, hour, 0, Some(hour));
        let stale = last_pass(Exit::Stale, minute, 0, Some(minute));
        let is_bad =
            |last: &Option<PassSummary>, ticks| timing(last.clone(), ticks).check().is_bad();
        assert!(!is_bad(&fresh, true));
        assert!(is_bad(&old, true));
        assert!(!is_bad(&old, false));
        assert!(is_bad(&stale, false));
        assert!(!is_bad(&None, false));
        assert!(is_bad(&None, true));
        assert_eq!(
            timing(fresh, true).check().message(),
            "the last good one: 2026-11-21 04:59:00 UTC, 60 s ago"
        );
    }
}
