//! Signals: the first request to stop lets the current resource finish.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::exec::StopFlag;

/// Sets the flag on SIGTERM, SIGINT, and SIGHUP, which comes when a terminal goes away: a lost
/// connection must not leave half a migration behind. A second signal of the same kind ends the process
/// at once, as it would have without this.
pub fn stop_on_termination(stop: &StopFlag) {
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        // The order matters: on the first signal the flag is still unset here, so only the second
        // one finds it set.
        let _ = signal_hook::flag::register_conditional_default(signal, stop.inner());
        let _ = signal_hook::flag::register(signal, stop.inner());
    }
}
