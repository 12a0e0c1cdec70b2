//! Watchdog that ends a hanging pass, so that its lock is released and the timer can start the next one.
//!
//! No deadline in the ports can interrupt a system call that never returns (an unresponsive filesystem, an
//! open that another process delays), nor can SIGTERM, which only sets a flag. So the ports declare their
//! operations, and a thread monitors them: a thread rather than a timer signal, because it has to record what
//! hung, which no signal handler may; and one that wakes up only every `CHECK_INTERVAL`, so that a pass
//! without work, which ends long before, pays only for its start, and an operation only for a push and a pop.
//!
//! Of nested operations the innermost decides. A process in a state where even SIGKILL waits (a dead disk)
//! cannot be ended from inside; the watchdog still records its operation.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread::{Builder, Thread, park_timeout};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::exec::DEFAULT_TIMEOUT;

/// Time that an operation may exceed its deadline. The ports enforce deadlines themselves where they can, and
/// a killed child has some seconds to end.
const GRACE: Duration = Duration::from_secs(60);

/// Time that trueup's own work may go without progress: the default timeout of a child. Each file, folder and
/// piece of a large file counts as progress, so a tree of any size may take its time; one fsync of a large
/// file to a slow disk must fit.
const IDLE_TIMEOUT: Duration = DEFAULT_TIMEOUT;

/// Interval of the watchdog's checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Time for recording what hung: this may hang for the same reason.
const REPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Exit code after a hang: that of any other failure.
const EXIT_FAILURE: libc::c_int = 1;

/// Longest description of an operation in a message, in characters.
const MAX_SHOWN_CHARS: usize = 160;

static OPERATIONS: Mutex<OperationStack> = Mutex::new(OperationStack::new());

/// Counts the progress of trueup's own work.
static PROGRESS: AtomicU64 = AtomicU64::new(0);

/// An operation of trueup, in progress while this value lives.
#[derive(Debug)]
#[must_use = "the operation ends with this value"]
pub(crate) struct Operation {
    id: u64,
}

/// Declares an operation that ends by itself within `limit`, even if it fails.
pub(crate) fn begin(name: impl Into<String>, limit: Duration) -> Operation {
    lock(&OPERATIONS).push(name.into(), Some(limit))
}

/// Declares work of trueup's own, which has no deadline but calls [`record_progress`].
pub(crate) fn begin_unbounded(name: impl Into<String>) -> Operation {
    lock(&OPERATIONS).push(name.into(), None)
}

/// Records progress of trueup's own work.
pub(crate) fn record_progress() {
    PROGRESS.fetch_add(1, Ordering::Relaxed);
}

impl Operation {
    /// Sets the process group to kill if the operation hangs.
    pub(crate) fn set_process_group(&self, group: Pid) {
        let mut state = lock(&OPERATIONS);
        if let Some(open) = state.open.iter_mut().find(|open| open.id == self.id) {
            open.group = Some(group);
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        lock(&OPERATIONS).remove(self.id);
    }
}

fn lock(state: &Mutex<OperationStack>) -> MutexGuard<'_, OperationStack> {
    state.lock().unwrap_or_else(|broken| broken.into_inner())
}

/// The operations in progress, outermost first.
#[derive(Debug)]
struct OperationStack {
    open: Vec<OpenOperation>,
    /// Number of operations begun so far, and number of begins and ends.
    last_id: u64,
    changes: u64,
}

#[derive(Debug)]
struct OpenOperation {
    id: u64,
    name: String,
    limit: Option<Duration>,
    group: Option<Pid>,
    /// Time of the first check that saw it, by the watchdog's own clock.
    first_seen: Option<Duration>,
}

impl OperationStack {
    const fn new() -> OperationStack {
        OperationStack {
            open: Vec::new(),
            last_id: 0,
            changes: 0,
        }
    }

    fn push(&mut self, name: String, limit: Option<Duration>) -> Operation {
        self.last_id += 1;
        self.changes += 1;
        self.open.push(OpenOperation {
            id: self.last_id,
            name,
            limit,
            group: None,
            first_seen: None,
        });
        Operation { id: self.last_id }
    }

    fn remove(&mut self, id: u64) {
        self.changes += 1;
        // Operations of several threads do not end in the order in which they began.
        self.open.retain(|open| open.id != id);
    }

    /// Describes the operations in one line that is safe to show.
    fn describe(&self) -> String {
        let names: Vec<String> = self.open.iter().map(|open| shorten(&open.name)).collect();
        match names.is_empty() {
            true => "work outside of the resources".to_owned(),
            false => names.join(": "),
        }
    }
}

fn shorten(name: &str) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = name.chars().take(MAX_SHOWN_CHARS).map(shown).collect();
    if short.len() < name.len() {
        short.push('…');
    }
    short
}

/// Time limits of the watchdog.
#[derive(Debug, Clone, Copy)]
struct Limits {
    grace: Duration,
    idle: Duration,
    check_interval: Duration,
}

const DEFAULT_LIMITS: Limits = Limits {
    grace: GRACE,
    idle: IDLE_TIMEOUT,
    check_interval: CHECK_INTERVAL,
};

/// Monitors operations until it is dropped.
#[derive(Debug)]
pub(crate) struct Watchdog {
    stopped: Arc<AtomicBool>,
    thread: Option<Thread>,
}

impl Watchdog {
    /// Starts monitoring: from now on a hang ends the process with the exit code of a failure. `write_down`
    /// gets a line that describes what hung, and has `REPORT_TIMEOUT` to record it.
    pub(crate) fn start(write_down: impl FnOnce(&str) + Send + 'static) -> Watchdog {
        Watchdog::start_with(DEFAULT_LIMITS, write_down)
    }

    fn start_with(limits: Limits, write_down: impl FnOnce(&str) + Send + 'static) -> Watchdog {
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        let started = Builder::new().name("watchdog".into()).spawn(move || {
            if let Some(why) = watch_for_hang(limits, &ended) {
                abort_process(why, write_down);
            }
        });
        let thread = match started {
            Ok(handle) => Some(handle.thread().clone()),
            Err(error) => {
                tracing::warn!(
                    "cannot start the watchdog thread, so a hung pass would not end: {error}"
                );
                None
            }
        };
        Watchdog {
            stopped: over,
            thread,
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }
}

/// Checks until an operation hangs, and describes it; `None` once `over` is set.
fn watch_for_hang(limits: Limits, over: &AtomicBool) -> Option<String> {
    let mut watch = HangDetector::new(limits);
    let mut last = Instant::now();
    loop {
        park_timeout(limits.check_interval);
        if over.load(Ordering::Acquire) {
            return None;
        }
        let now = Instant::now();
        let passed = now.duration_since(last);
        last = now;
        let progress = PROGRESS.load(Ordering::Relaxed);
        let hung = watch.check(&mut lock(&OPERATIONS), progress, passed);
        if hung.is_some() {
            return hung;
        }
    }
}

/// State of the watchdog between two checks.
#[derive(Debug)]
struct HangDetector {
    limits: Limits,
    now: Duration,
    changes: u64,
    progress: u64,
    /// Time of the last begin or end of an operation, and of the last progress.
    last_change: Duration,
    last_progress: Duration,
}

impl HangDetector {
    fn new(limits: Limits) -> HangDetector {
        HangDetector {
            limits,
            now: Duration::ZERO,
            changes: 0,
            progress: 0,
            last_change: Duration::ZERO,
            last_progress: Duration::ZERO,
        }
    }

    fn check(
        &mut self,
        state: &mut OperationStack,
        progress: u64,
        passed: Duration,
    ) -> Option<String> {
        // Time in suspend, or without a processor, does not count: the operation could not run either.
        self.now += passed.min(self.limits.check_interval * 2);
        if self.changes != state.changes {
            self.changes = state.changes;
            self.last_change = self.now;
        }
        if self.progress != progress {
            self.progress = progress;
            self.last_progress = self.now;
        }
        for open in &mut state.open {
            open.first_seen.get_or_insert(self.now);
        }
        let innermost = state.open.last();
        let grace = self.limits.grace;
        match innermost.and_then(|open| Some((open.limit?, open.first_seen?))) {
            // Operations inside it may rightly have taken longer.
            Some((limit, first_seen))
                if self.now
                    >= first_seen
                        .saturating_add(limit)
                        .max(self.last_change)
                        .saturating_add(grace) =>
            {
                Some(format!(
                    "it hung at {}, {} s past the deadline of {} s",
                    state.describe(),
                    grace.as_secs(),
                    limit.as_secs()
                ))
            }
            Some(_) => None,
            None => {
                let limit = self.limits.idle + grace;
                let idle = self.now >= self.last_change.max(self.last_progress) + limit;
                idle.then(|| {
                    format!(
                        "it hung at {}, without progress for {} s",
                        state.describe(),
                        limit.as_secs()
                    )
                })
            }
        }
    }
}

/// Records what hung, and ends the process with all its children.
fn abort_process(why: String, write_down: impl FnOnce(&str) + Send + 'static) {
    let line = format!(
        "the watchdog ended the pass: {why}; find a filesystem or disk that does not respond (`dmesg`, `mount`); the next pass starts over"
    );
    let (done, wait) = mpsc::channel();
    // On its own thread: the hanging thread may hold a lock that this needs.
    let reporter = Builder::new().name("hang-report".into()).spawn(move || {
        write_down(&line);
        tracing::error!("{line}");
        let _ = done.send(());
    });
    if reporter.is_ok() {
        let _ = wait.recv_timeout(REPORT_TIMEOUT);
    }
    let groups: Vec<Pid> = lock(&OPERATIONS)
        .open
        .iter()
        .filter_map(|operation| operation.group)
        .collect();
    for group in groups {
        let _ = killpg(group, Signal::SIGKILL);
    }
    // SAFETY: ends the process without its exit handlers, which may wait for what hangs. Files are only ever
    // replaced atomically, so nothing is left to finish.
    unsafe { libc::_exit(EXIT_FAILURE) }
}
