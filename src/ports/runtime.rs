//! The asynchronous runtime for ports whose libraries need one (S3, D-Bus).
//!
//! The pass itself is sequential; a port enters the runtime for the length of one call. It is built on first
//! use, so that a pass that does not need it pays nothing for it.

use std::cell::OnceCell;
use std::future::Future;

use tokio::runtime::{Builder, Runtime};

thread_local! {
    static RUNTIME: OnceCell<BackgroundRuntime> = const { OnceCell::new() };
}

/// A runtime that shuts down without waiting for its helper threads: a name lookup that timed out would
/// otherwise delay the end of the process.
struct BackgroundRuntime(Option<Runtime>);

impl Drop for BackgroundRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs `future` to completion on this thread's runtime. Must not be called from inside it.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    RUNTIME.with(|cell| {
        let kept = cell.get_or_init(|| {
            let runtime = Builder::new_current_thread().enable_all().build();
            BackgroundRuntime(Some(runtime.expect(
                "a current-thread runtime needs only an epoll descriptor and a pipe",
            )))
        });
        let runtime = kept.0.as_ref().expect("taken only when dropped");
        runtime.block_on(future)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn timed_out_lookup_does_not_delay_the_exit() {
        let finished = Arc::new(AtomicBool::new(false));
        let lookup = Arc::clone(&finished);
        let thread = std::thread::spawn(|| {
            let lookup = move || {
                std::thread::sleep(Duration::from_secs(30));
                lookup.store(true, Ordering::SeqCst);
            };
            block_on(async {
                let lookup = tokio::task::spawn_blocking(lookup);
                tokio::time::timeout(Duration::from_millis(10), lookup).await
            })
            .unwrap_err();
        });
        thread.join().unwrap();
        assert!(!finished.load(Ordering::SeqCst), "the end waited for it");
    }
}
