//! Keeps the register within its size: hosts read it again and again, and refuse a larger one.

use super::entry::Entry;
use super::object::{MAX_REGISTER, encode};
use super::register::Register;

/// Failures that entries keep when there is no room, and when there is still none.
const KEPT_FAILURES: [usize; 3] = [10, 1, 0];

/// Acts that a register keeps when there is no room.
const MIN_ACTS: usize = 5;

/// Leaves out what matters least until the register is small enough. Returns whether it is.
pub(super) fn fit(register: &mut Register) -> bool {
    loop {
        if encode(register).len() <= MAX_REGISTER {
            return true;
        }
        if !shorten(register) {
            return false;
        }
    }
}

/// Leaves out of what decides nothing: log tails, and then the failures themselves.
fn shorten_local_failures(register: &mut Register) -> bool {
    let has_tail = |entry: &&mut Entry| {
        let mut failures = entry.local_failures.iter();
        failures.any(|failure| !failure.log_tail.is_empty())
    };
    if let Some(entry) = register.entries.iter_mut().find(has_tail) {
        let failures = entry.local_failures.iter_mut();
        failures.for_each(|failure| failure.log_tail.clear());
        return true;
    }
    for kept in [3, 0] {
        let has_more = |entry: &&mut Entry| entry.local_failures.len() > kept;
        if let Some(entry) = register.entries.iter_mut().find(has_more) {
            entry.local_failures.truncate(kept);
            return true;
        }
    }
    false
}

/// Leaves something out, if there is anything to leave out: log tails, failures (which still count), acts, entries that
/// are over.
fn shorten(register: &mut Register) -> bool {
    if shorten_local_failures(register) {
        return true;
    }
    let has_tail = |entry: &&mut Entry| {
        let mut failures = entry.failures.iter();
        failures.any(|failure| !failure.log_tail.is_empty())
    };
    if let Some(entry) = register.entries.iter_mut().find(has_tail) {
        for failure in &mut entry.failures {
            failure.log_tail.clear();
        }
        return true;
    }
    for kept in KEPT_FAILURES {
        let has_more = |entry: &&mut Entry| entry.failures.len() > kept;
        if let Some(entry) = register.entries.iter_mut().find(has_more) {
            let left_out = u32::try_from(entry.failures.len() - kept).unwrap_or(u32::MAX);
            entry.failures.truncate(kept);
            entry.unlisted_failures = entry.unlisted_failures.saturating_add(left_out);
            return true;
        }
    }
    if register.acts.len() > MIN_ACTS {
        let old = register.acts.len() - MIN_ACTS;
        register.acts.drain(..old);
        return true;
    }
    let is_over = |entry: &Entry| !entry.is_open();
    let Some(oldest) = register.entries.iter().position(is_over) else {
        return false;
    };
    register.entries.remove(oldest);
    true
}
