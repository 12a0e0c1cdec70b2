//! Signals: the first request to stop lets the current resource finish.

use std::sync::OnceLock;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use nix::libc;

use super::exec::StopFlag;

/// The flag that a request to stop sets, one for the whole process: a command that makes one pass after the other does not
/// miss a signal between two of them.
pub(crate) fn termination() -> StopFlag {
    static TERMINATION: OnceLock<StopFlag> = OnceLock::new();
    let flag = TERMINATION.get_or_init(|| {
        let stop = StopFlag::default();
        stop_on_termination(&stop);
        stop
    });
    flag.clone()
}

/// Sets the flag on SIGTERM, SIGINT, and SIGHUP, which reports a lost terminal: a lost connection must not
/// leave a migration half done. An ignored SIGHUP (`nohup`) stays ignored. A second signal of the same kind
/// ends the process at once, as it would by default.
pub(crate) fn stop_on_termination(stop: &StopFlag) {
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        if signal == SIGHUP && is_ignored(signal) {
            continue;
        }
        // The order matters: on the first signal the flag is still unset here, so only the second one finds
        // it set.
        let _ = signal_hook::flag::register_conditional_default(signal, stop.inner());
        let _ = signal_hook::flag::register(signal, stop.inner());
    }
}

/// Whether the caller of trueup made it ignore this signal.
pub(super) fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: all zeroes is a valid value of this plain struct, and the call writes only to it.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut now) == 0
            && now.sa_sigaction == libc::SIG_IGN
    }
}
