//! How passes go on this host: the last good one, the next one, and what is owed.

use jiff::Timestamp;

use super::{Check, bad, note};
use crate::exit::Exit;
use crate::plan::{self, Selection};
use crate::ports::Host;
use crate::ports::services::{Tick, timer};
use crate::report::{History, Last};
use crate::role::Catalog;

/// With a timer, a good pass that is older than this is too old, in seconds.
const OLD: i64 = 15 * 60;

/// What starts passes by itself.
const TIMER: &str = "trueup.timer";

/// What is owed that no pass has paid.
pub(super) fn owed(catalog: &Catalog, host: &Host, tell: &mut dyn FnMut(Check)) {
    if !host.root.privileged() && host.root.is_real() {
        tell(note("owed", "what is owed can be seen only by root"));
        return;
    }
    let plan = plan::build(catalog, host, &Selection::all());
    let debts = plan.steps.iter().flat_map(|step| {
        step.debts
            .iter()
            .map(move |debt| format!("{} of {}", debt.duty, step.id))
    });
    let debts: Vec<String> = debts.collect();
    tell(match debts.as_slice() {
        [] => Check::good("owed", "nothing is owed"),
        debts => bad(
            "owed",
            format!("still owed: {}", debts.join(", ")),
            "the next pass does it: `trueup converge`, or `trueup status` tells why not",
        ),
    });
}

/// When a pass last ended well.
pub(super) fn last(host: &Host, tell: &mut dyn FnMut(Check)) {
    let last = History::new(host).last();
    let ticks = matches!(
        timer(&host.root, &host.exec, TIMER),
        Ok(Some(Tick::At(_) | Tick::Underway))
    );
    tell(judge(last.as_ref(), host.clock.now(), ticks));
}

fn judge(last: Option<&Last>, now: Timestamp, ticks: bool) -> Check {
    let about = "last pass";
    let Some(last) = last else {
        let what = "none since boot";
        return match ticks {
            true => bad(
                about,
                what,
                "`journalctl -u trueup` tells what the timer's passes end with",
            ),
            false => note(about, format!("{what}; `trueup converge` makes one")),
        };
    };
    let good = last.good.map_or("never since boot".into(), |good| {
        let ago = now.duration_since(good).as_secs().max(0);
        format!("{}, {ago} s ago", good.strftime("%F %T UTC"))
    });
    if last.outcome != Exit::Converged {
        return bad(
            about,
            format!(
                "ended with {}; the last good one: {good}",
                last.outcome.word()
            ),
            "`trueup status` tells why",
        );
    }
    let old = last
        .good
        .is_none_or(|good| now.duration_since(good).as_secs() > OLD);
    if ticks && old {
        return bad(
            about,
            format!("the last good one: {good}"),
            "the timer should have made others since: `journalctl -u trueup` tells what became of them",
        );
    }
    Check::good(about, format!("the last good one: {good}"))
}

/// What starts the next one.
pub(super) fn next(host: &Host, tell: &mut dyn FnMut(Check)) {
    let about = "next pass";
    tell(match timer(&host.root, &host.exec, TIMER) {
        Ok(Some(Tick::At(at))) => {
            let seconds = at.duration_since(host.clock.now()).as_secs().max(0);
            Check::good(about, format!("{TIMER}, in {seconds} s"))
        }
        Ok(Some(Tick::Underway)) => Check::good(about, format!("{TIMER}; one is running")),
        Ok(Some(Tick::Off)) => bad(
            about,
            format!("{TIMER} is off"),
            format!("`systemctl enable --now {TIMER}`, unless somebody stopped it on purpose"),
        ),
        Ok(None) => note(
            about,
            format!("nothing starts one by itself: there is no {TIMER}"),
        ),
        Err(error) => note(about, format!("it cannot be told: {error}")),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_pass_that_is_too_old_is_bad_only_where_a_timer_makes_them() {
        let now: Timestamp = "2026-11-21T05:00:00Z".parse().unwrap();
        let last = |outcome, good: Option<&str>| Last {
            version: 1,
            started: now,
            took_ms: 1,
            why: None,
            textfile: None,
            outcome,
            store_answered: None,
            good: good.map(|good| good.parse().unwrap()),
        };
        let fresh = last(Exit::Converged, Some("2026-11-21T04:59:00Z"));
        let old = last(Exit::Converged, Some("2026-11-21T04:00:00Z"));
        let stale = last(Exit::Stale, Some("2026-11-21T04:59:00Z"));
        let is_bad = |last, ticks| judge(last, now, ticks).is_bad();
        assert!(!is_bad(Some(&fresh), true));
        assert!(is_bad(Some(&old), true));
        assert!(!is_bad(Some(&old), false));
        assert!(is_bad(Some(&stale), false));
        assert!(!is_bad(None, false));
        assert!(is_bad(None, true));
        assert_eq!(
            judge(Some(&fresh), now, true).message(),
            "the last good one: 2026-11-21 04:59:00 UTC, 60 s ago"
        );
    }
}
