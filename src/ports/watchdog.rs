//! A pass that hangs ends itself, so that its lock goes and the timer goes on.
//!
//! A system call that never returns (a filesystem that does not answer, an open that somebody holds
//! up) is past the reach of every deadline in the ports, and of SIGTERM, which only sets a flag. So
//! the ports declare what they are at, and a thread looks on from outside. A thread and no timer
//! signal, because it has to write down what hung, which no signal handler may; and one that only
//! wakes up every [`TICK`], so that a pass without work, which is over long before, pays for nothing
//! but its start, and an operation for nothing but a push and a pop.
//!
//! Of nested operations the innermost decides. A process in a state where even SIGKILL waits (a dead
//! disk) cannot be ended from inside: its operation is written down all the same.

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

/// How long an operation may be past its deadline. The ports end what they can end at the deadline
/// itself, and a child has some seconds to go.
const GRACE: Duration = Duration::from_secs(60);

/// How long trueup's own work may show no progress: as long as a child that says nothing else.
/// Each file, folder and piece of a large file counts as progress, so a tree of any size may take
/// its time; one fsync of a large file to a slow disk must fit.
const IDLE: Duration = DEFAULT_TIMEOUT;

/// How often the watchdog looks.
const TICK: Duration = Duration::from_secs(5);

/// How long it may take to write down what hung: this may hang for the same reason.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What the process ends with: as any other failure.
const FAILED: libc::c_int = 1;

/// No more of what an operation is called is told, in characters.
const SHOWN: usize = 160;

static STATE: Mutex<State> = Mutex::new(State::new());

/// Counts what goes on in trueup's own work.
static PROGRESS: AtomicU64 = AtomicU64::new(0);

/// Something that trueup is at, until this value goes.
#[derive(Debug)]
#[must_use = "the operation ends with this value"]
pub struct Operation {
    id: u64,
}

/// Declares an operation that ends by itself within `limit`, even if it fails.
pub fn begin(what: impl Into<String>, limit: Duration) -> Operation {
    lock(&STATE).push(what.into(), Some(limit))
}

/// Declares work of trueup's own, which has no deadline but shows [`progress`].
pub fn at(what: impl Into<String>) -> Operation {
    lock(&STATE).push(what.into(), None)
}

/// Shows that trueup's own work goes on.
pub fn progress() {
    PROGRESS.fetch_add(1, Ordering::Relaxed);
}

impl Operation {
    /// The process group to be killed should the operation hang.
    pub fn runs(&self, group: Pid) {
        let mut state = lock(&STATE);
        if let Some(open) = state.open.iter_mut().find(|open| open.id == self.id) {
            open.group = Some(group);
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        lock(&STATE).remove(self.id);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(|broken| broken.into_inner())
}

/// What is being done right now, outermost first.
#[derive(Debug)]
struct State {
    open: Vec<Open>,
    /// How many operations were ever begun, and how many have begun or ended.
    begun: u64,
    turns: u64,
}

#[derive(Debug)]
struct Open {
    id: u64,
    what: String,
    limit: Option<Duration>,
    group: Option<Pid>,
    /// When the watchdog saw it first, by its own clock.
    seen: Option<Duration>,
}

impl State {
    const fn new() -> State {
        State {
            open: Vec::new(),
            begun: 0,
            turns: 0,
        }
    }

    fn push(&mut self, what: String, limit: Option<Duration>) -> Operation {
        self.begun += 1;
        self.turns += 1;
        self.open.push(Open {
            id: self.begun,
            what,
            limit,
            group: None,
            seen: None,
        });
        Operation { id: self.begun }
    }

    fn remove(&mut self, id: u64) {
        self.turns += 1;
        // Operations of several threads do not end in the order in which they began.
        self.open.retain(|open| open.id != id);
    }

    /// What trueup is at, in one line that is safe to show.
    fn words(&self) -> String {
        let names: Vec<String> = self.open.iter().map(|open| short(&open.what)).collect();
        match names.is_empty() {
            true => "what comes before and after the resources".to_owned(),
            false => names.join(": "),
        }
    }
}

fn short(what: &str) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = what.chars().take(SHOWN).map(shown).collect();
    if short.len() < what.len() {
        short.push('…');
    }
    short
}

/// How patient the watchdog is.
#[derive(Debug, Clone, Copy)]
struct Limits {
    grace: Duration,
    idle: Duration,
    tick: Duration,
}

const USUAL: Limits = Limits {
    grace: GRACE,
    idle: IDLE,
    tick: TICK,
};

/// Looks on until it is dropped.
#[derive(Debug)]
pub struct Watchdog {
    over: Arc<AtomicBool>,
    thread: Option<Thread>,
}

impl Watchdog {
    /// From now on a hang ends the process with the code of a failure. `write_down` is given what
    /// hung, in a line, and has some seconds for it.
    pub fn start(write_down: impl FnOnce(&str) + Send + 'static) -> Watchdog {
        Watchdog::with(USUAL, write_down)
    }

    fn with(limits: Limits, write_down: impl FnOnce(&str) + Send + 'static) -> Watchdog {
        let over = Arc::new(AtomicBool::new(false));
        let seen = over.clone();
        let started = Builder::new().name("watchdog".into()).spawn(move || {
            if let Some(why) = watch(limits, &seen) {
                end(why, write_down);
            }
        });
        let thread = match started {
            Ok(handle) => Some(handle.thread().clone()),
            Err(error) => {
                tracing::warn!("a pass that hangs will not end by itself: no thread: {error}");
                None
            }
        };
        Watchdog { over, thread }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }
}

/// Looks until something hangs, which is returned, or until it is over.
fn watch(limits: Limits, over: &AtomicBool) -> Option<String> {
    let mut watch = Watch::new(limits);
    let mut last = Instant::now();
    loop {
        park_timeout(limits.tick);
        if over.load(Ordering::Acquire) {
            return None;
        }
        let now = Instant::now();
        let passed = now.duration_since(last);
        last = now;
        let progress = PROGRESS.load(Ordering::Relaxed);
        let hung = watch.look(&mut lock(&STATE), progress, passed);
        if hung.is_some() {
            return hung;
        }
    }
}

/// What the watchdog knows from one look to the next.
#[derive(Debug)]
struct Watch {
    limits: Limits,
    now: Duration,
    turns: u64,
    progress: u64,
    /// When an operation last began or ended, and when there was progress besides.
    turned: Duration,
    went_on: Duration,
}

impl Watch {
    fn new(limits: Limits) -> Watch {
        Watch {
            limits,
            now: Duration::ZERO,
            turns: 0,
            progress: 0,
            turned: Duration::ZERO,
            went_on: Duration::ZERO,
        }
    }

    fn look(&mut self, state: &mut State, progress: u64, passed: Duration) -> Option<String> {
        // A machine that was suspended or had no processor was no use to the operation either.
        self.now += passed.min(self.limits.tick * 2);
        if self.turns != state.turns {
            self.turns = state.turns;
            self.turned = self.now;
        }
        if self.progress != progress {
            self.progress = progress;
            self.went_on = self.now;
        }
        for open in &mut state.open {
            open.seen.get_or_insert(self.now);
        }
        let innermost = state.open.last();
        let grace = self.limits.grace;
        match innermost.and_then(|open| Some((open.limit?, open.seen?))) {
            // What was inside it may rightly have taken longer.
            Some((limit, seen))
                if self.now
                    >= seen
                        .saturating_add(limit)
                        .max(self.turned)
                        .saturating_add(grace) =>
            {
                Some(format!(
                    "it hung at {}, {} s past the deadline of {} s",
                    state.words(),
                    grace.as_secs(),
                    limit.as_secs()
                ))
            }
            Some(_) => None,
            None => {
                let limit = self.limits.idle + grace;
                let idle = self.now >= self.turned.max(self.went_on) + limit;
                idle.then(|| {
                    format!(
                        "it hung at {}, without progress for {} s",
                        state.words(),
                        limit.as_secs()
                    )
                })
            }
        }
    }
}

/// Writes down what hung, and ends the process with all its children.
fn end(why: String, write_down: impl FnOnce(&str) + Send + 'static) {
    let line = format!(
        "the pass ended itself: {why}; look for a filesystem or a disk that does not answer (`dmesg`, `mount`); the next pass begins anew"
    );
    let (done, wait) = mpsc::channel();
    // On a thread of its own: whoever hung may hold what this needs.
    let told = Builder::new().name("last-words".into()).spawn(move || {
        write_down(&line);
        tracing::error!("{line}");
        let _ = done.send(());
    });
    if told.is_ok() {
        let _ = wait.recv_timeout(LAST_WORDS);
    }
    let groups: Vec<Pid> = lock(&STATE).open.iter().filter_map(|o| o.group).collect();
    for group in groups {
        let _ = killpg(group, Signal::SIGKILL);
    }
    // SAFETY: ends the process without its exit handlers, which may wait for what hangs. Files are
    // only ever replaced whole, so there is nothing to finish.
    unsafe { libc::_exit(FAILED) }
}
