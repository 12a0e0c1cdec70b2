//! What a command is doing, on the line at the bottom of the terminal, for anything that takes over a second.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::logging::is_live_line_supported;
use crate::ports::clock::{Clock, SystemClock};
use crate::release::progress;

/// How often the line is drawn again. What ends before that is never shown.
const INTERVAL: Duration = Duration::from_secs(1);

/// Something that may take long. The line shows it until this is dropped, which has to be before anything is asked.
#[must_use = "the line shows it only as long as this lives"]
pub(super) struct Progress {
    shared: Arc<Shared>,
    drawer: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    is_over: bool,
    detail: String,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    /// `title` says what is done, such as `reading the records of production`.
    pub(super) fn begin(title: impl Into<String>) -> Progress {
        let shared = Arc::new(Shared::default());
        let (title, started) = (title.into(), SystemClock.monotonic_now());
        let drawer = is_live_line_supported().then(|| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || draw(&shared, &title, started))
        });
        Progress { shared, drawer }
    }

    /// How far it is, such as `3 of 12 hosts`.
    pub(super) fn set_detail(&self, detail: String) {
        self.shared.lock().detail = detail;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.ended.notify_all();
        if let Some(drawer) = self.drawer.take() {
            let _ = drawer.join();
        }
    }
}

fn draw(shared: &Shared, title: &str, started: Instant) {
    let mut is_drawn = false;
    let mut state = shared.lock();
    while !state.is_over {
        let waited = shared.ended.wait_timeout(state, INTERVAL);
        let timeout;
        (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() && !state.is_over {
            let elapsed = SystemClock
                .monotonic_now()
                .saturating_duration_since(started);
            progress::show(title, elapsed, &state.detail);
            is_drawn = true;
        }
    }
    if is_drawn {
        progress::show("", Duration::ZERO, "");
    }
}
