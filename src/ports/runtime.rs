//! The one asynchronous runtime, for the ports whose libraries need one (S3, D-Bus).
//!
//! The pass itself is sequential; a port enters the runtime for the length of one call. Built on
//! first use, so that a pass that needs neither pays nothing for it.

use std::cell::OnceCell;
use std::future::Future;

use tokio::runtime::{Builder, Runtime};

thread_local! {
    static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
}

/// Runs `future` to its end on this thread's runtime. Must not be called from inside it.
pub fn block_on<F: Future>(future: F) -> F::Output {
    RUNTIME.with(|cell| {
        cell.get_or_init(|| {
            Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a current-thread runtime needs only an epoll descriptor and a pipe")
        })
        .block_on(future)
    })
}
