//! Backoff with jitter between retries, so that hosts that collided once do not collide again, and plain
//! pauses between polls.

use std::time::Duration;

use super::random::random_u64;
use super::watchdog;

/// Upper bound of the first delay; it doubles with each retry.
const BASE_DELAY: Duration = Duration::from_millis(50);
/// Longest delay.
const MAX_DELAY: Duration = Duration::from_secs(2);

/// Waits after attempt number `attempt`, counted from 1.
pub(crate) fn wait_before_retry(attempt: u32) {
    sleep(delay_before_retry(attempt));
}

/// How long to wait after attempt number `attempt`, counted from 1.
pub(crate) fn delay_before_retry(attempt: u32) -> Duration {
    jittered_delay(attempt, random_u64())
}

/// Waits this long.
pub(crate) fn sleep(length: Duration) {
    watchdog::record_progress();
    std::thread::sleep(length);
}

/// Waits for between half of this and one and a half times this, so that hosts that wait for the same do not ask at the
/// same time.
pub(crate) fn sleep_jittered(length: Duration) {
    let spread = u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
    sleep(length / 2 + Duration::from_micros(random_u64() % (spread + 1)));
}

/// A delay between half of the attempt's upper bound and all of it.
fn jittered_delay(attempt: u32, random: u64) -> Duration {
    let doubled = BASE_DELAY.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
    let half = doubled.min(MAX_DELAY) / 2;
    let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
    half + Duration::from_micros(random % (spread + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_are_jittered_and_bounded() {
        let at_most = |attempt| jittered_delay(attempt, 24_999);
        assert_eq!(jittered_delay(1, 0), Duration::from_millis(25));
        assert!(at_most(1) <= BASE_DELAY && jittered_delay(1, 7) != jittered_delay(1, 8));
        assert_eq!(jittered_delay(3, 0), jittered_delay(1, 0) * 4);
        for attempt in [0, 10, 100, u32::MAX] {
            assert!(jittered_delay(attempt, u64::MAX) <= MAX_DELAY, "{attempt}");
        }
    }
}
