//! Worker pool: runs many jobs in parallel, at full speed or at idle priority.

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::libc;

use super::exec::StopFlag;

/// Fewest jobs for each thread that are worth starting one.
const MIN_JOBS_PER_THREAD: usize = 8;

/// Most threads that work on one disk.
const MAX_THREADS: usize = 16;

/// Priority of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    /// Something waits for it.
    Normal,
    /// Nothing waits for it: it gets the processor and disk only when they are otherwise idle.
    Idle,
}

/// Reason why not all jobs were done.
#[derive(Debug)]
pub(crate) enum WorkerPoolError<E> {
    /// trueup was asked to stop.
    Stopped,
    Failed(E),
}

impl Priority {
    /// Runs all jobs on all cores, in no particular order. The first failure or the stop flag ends it:
    /// started jobs are finished, no other is started.
    pub(crate) fn run_all<J: Sync, E: Send>(
        self,
        jobs: &[J],
        stop: &StopFlag,
        work: impl Fn(&J) -> Result<(), E> + Sync,
    ) -> Result<(), WorkerPoolError<E>> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = cores.min(MAX_THREADS).min(jobs.len() / MIN_JOBS_PER_THREAD);
        let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let halted = Mutex::new(None);
        let halt = |why| {
            over.store(true, Ordering::Relaxed);
            let mut halted = halted.lock().unwrap_or_else(|broken| broken.into_inner());
            halted.get_or_insert(why);
        };
        let go = || {
            while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                if stop.is_set() {
                    return halt(WorkerPoolError::Stopped);
                }
                if let Err(error) = work(job) {
                    return halt(WorkerPoolError::Failed(error));
                }
            }
        };
        match self {
            Priority::Normal if threads < 2 => go(),
            // The calling thread keeps its own priority, so it only waits.
            _ => std::thread::scope(|scope| {
                for _ in 0..threads.max(1) {
                    scope.spawn(|| {
                        if self == Priority::Idle {
                            lower_priority();
                        }
                        go();
                    });
                }
            }),
        }
        let halted = halted
            .into_inner()
            .unwrap_or_else(|broken| broken.into_inner());
        halted.map_or(Ok(()), Err)
    }

    /// Runs one job, on its own thread if the priority requires it.
    pub(crate) fn run<T: Send>(self, work: impl FnOnce() -> T + Send) -> T {
        match self {
            Priority::Normal => work(),
            Priority::Idle => std::thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    lower_priority();
                    work()
                });
                match thread.join() {
                    Ok(done) => done,
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }),
        }
    }
}

/// Lowers this thread's processor and disk priority to idle. It cannot be raised again, so this needs its own
/// thread. Errors are ignored: this is only a courtesy to other processes.
fn lower_priority() {
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_IDLE: libc::c_int = 3 << 13;
    // SAFETY: two system calls on the calling thread (0) that take plain numbers.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 19);
        libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, CLASS_IDLE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_runs_once_at_either_priority() {
        for pace in [Priority::Normal, Priority::Idle] {
            for count in [0, 1, 7, 1000] {
                let done: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                let each = pace.run_all(&done, &StopFlag::default(), |job| {
                    job.fetch_add(1, Ordering::Relaxed);
                    Ok::<(), ()>(())
                });
                assert!(each.is_ok());
                assert!(done.iter().all(|job| job.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn failure_or_stop_request_ends_the_run() {
        let jobs = [0_u32; 1000];
        let failed = Priority::Normal.run_all(&jobs, &StopFlag::default(), |_| Err("full"));
        assert!(matches!(failed, Err(WorkerPoolError::Failed("full"))));
        let (stop, started) = (StopFlag::default(), AtomicUsize::new(0));
        let stopped = Priority::Normal.run_all(&jobs, &stop, |_| {
            started.fetch_add(1, Ordering::Relaxed);
            stop.set();
            Ok::<(), ()>(())
        });
        assert!(matches!(stopped, Err(WorkerPoolError::Stopped)));
        assert!(started.load(Ordering::Relaxed) <= MAX_THREADS);
    }

    #[test]
    fn idle_work_has_the_lowest_priority_and_the_caller_keeps_its_own() {
        // SAFETY: queries the calling thread.
        let ask = || unsafe {
            let nice = libc::getpriority(libc::PRIO_PROCESS, 0);
            (nice, libc::syscall(libc::SYS_ioprio_get, 1, 0) >> 13)
        };
        let before = ask();
        assert_eq!(Priority::Idle.run(ask), (19, 3));
        assert_eq!(ask(), before);
    }
}
