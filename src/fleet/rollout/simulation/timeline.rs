//! Virtual time: tasks that sleep, and a queue of when each goes on.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::time::Duration;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use jiff::{SignedDuration, Timestamp};

/// Enough for a debug build. Only the pages that a task touches take memory.
const STACK: usize = 256 << 10;

/// Code that yields how long it sleeps.
type Task = Coroutine<(), Duration, ()>;

/// The time since the beginning, the same for all.
#[derive(Clone, Default)]
pub(super) struct VirtualClock(Rc<Cell<Duration>>);

impl VirtualClock {
    pub(super) fn elapsed(&self) -> Duration {
        self.0.get()
    }

    pub(super) fn now(&self) -> Timestamp {
        let began = SignedDuration::from_hours(24 * 365 * 50);
        let elapsed = SignedDuration::try_from(self.0.get()).unwrap_or_default();
        Timestamp::UNIX_EPOCH + began + elapsed
    }
}

/// How a task sleeps.
pub(super) struct Sleep<'y>(&'y Yielder<(), Duration>);

impl Sleep<'_> {
    pub(super) fn sleep(&self, length: Duration) {
        self.0.suspend(length);
    }
}

/// A task that begins at once.
pub(super) fn task(code: impl FnOnce(&Sleep<'_>) + 'static) -> Task {
    let stack = DefaultStack::new(STACK).expect("there is memory for a stack");
    Coroutine::with_stack(stack, move |yielder, ()| code(&Sleep(yielder)))
}

/// Runs the tasks, each to its end or until all is over.
pub(super) fn run(mut tasks: Vec<Task>, clock: &VirtualClock, is_over: impl Fn() -> bool) {
    let mut queue = BinaryHeap::new();
    queue.extend((0..tasks.len()).map(|number| Reverse((Duration::ZERO, number, number))));
    let mut order = tasks.len();
    while let Some(Reverse((time, _, number))) = queue.pop() {
        clock.0.set(time);
        if is_over() {
            return;
        }
        if let CoroutineResult::Yield(length) = tasks[number].resume(()) {
            // Whoever went to sleep first goes on first.
            order += 1;
            queue.push(Reverse((time + length, order, number)));
        }
    }
}
