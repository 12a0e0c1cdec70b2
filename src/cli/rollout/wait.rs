//! When `rollout status --wait` ends although the rollout is neither done nor halted.

use std::time::{Duration, Instant};

use crate::exit::Exit;
use crate::fleet::rollout::RolloutView;

/// How long hosts that failed for reasons of their own may try again while nothing else goes on. The first attempt after
/// a failure comes with the next pass.
const RETRY_TIME: Duration = Duration::from_secs(60);

/// How long the host that was the last to prove itself may take to give its slot back.
const FINISH_TIME: Duration = Duration::from_secs(20);

/// Waits for what may still go on by itself.
#[derive(Default)]
pub(super) struct Waiting {
    /// Since when nothing goes on but hosts that try again, and what was shown of it.
    stuck: Option<(Instant, String)>,
    /// Since when the rollout is done, with slots that are still held.
    finishing: Option<Instant>,
}

impl Waiting {
    /// Whether something may still happen. `line`: what is shown of the rollout.
    pub(super) fn goes_on(&mut self, view: &RolloutView, line: &str, now: Instant) -> bool {
        if view.outcome == Exit::Pending {
            self.stuck = None;
            return true;
        }
        if view.outcome == Exit::Converged && !view.holders.is_empty() {
            let since = *self.finishing.get_or_insert(now);
            return now.saturating_duration_since(since) < FINISH_TIME;
        }
        if view.outcome != Exit::Failed
            || view.overdue.is_some()
            || !view.is_stuck_in_local_failures()
        {
            return false;
        }
        match &self.stuck {
            Some((since, shown)) if shown == line => {
                now.saturating_duration_since(*since) < RETRY_TIME
            }
            _ => {
                self.stuck = Some((now, line.to_owned()));
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::rollout::{HeldSlot, LocalFailure};
    use crate::ports::clock::{Clock, SystemClock};

    fn view(outcome: Exit) -> RolloutView {
        let failure = LocalFailure::new("web3", Some("build"), "no space", "");
        RolloutView {
            outcome,
            local_failures: vec![failure],
            ..RolloutView::empty("production", "shop")
        }
    }

    #[test]
    fn hosts_that_failed_get_a_minute_to_try_again() {
        let (mut waiting, start) = (Waiting::default(), SystemClock.monotonic_now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let stuck = view(Exit::Failed);
        assert!(waiting.goes_on(&stuck, "1 of 4", start));
        assert!(waiting.goes_on(&stuck, "1 of 4", after(59)));
        assert!(
            waiting.goes_on(&stuck, "2 of 4", after(60)),
            "one has taken it"
        );
        assert!(waiting.goes_on(&view(Exit::Pending), "2 of 4", after(100)));
        assert!(waiting.goes_on(&stuck, "2 of 4", after(130)));
        assert!(!waiting.goes_on(&stuck, "2 of 4", after(190)));
    }

    #[test]
    fn last_host_gets_time_to_give_its_slot_back() {
        let (mut waiting, start) = (Waiting::default(), SystemClock.monotonic_now());
        let done = RolloutView {
            holders: vec![HeldSlot::of("web3")],
            local_failures: Vec::new(),
            ..view(Exit::Converged)
        };
        assert!(waiting.goes_on(&done, "", start));
        assert!(waiting.goes_on(&done, "", start + Duration::from_secs(19)));
        assert!(!waiting.goes_on(&done, "", start + Duration::from_secs(20)));
        assert!(!Waiting::default().goes_on(&view(Exit::Converged), "", start));
    }

    #[test]
    fn wait_ends_at_once_if_the_rollout_ended_otherwise() {
        for outcome in [Exit::Converged, Exit::RolledBack, Exit::Waiting] {
            assert!(!Waiting::default().goes_on(&view(outcome), "", SystemClock.monotonic_now()));
        }
        let halted = RolloutView {
            local_failures: Vec::new(),
            ..view(Exit::Failed)
        };
        assert!(!Waiting::default().goes_on(&halted, "", SystemClock.monotonic_now()));
    }
}
