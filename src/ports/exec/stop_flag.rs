//! The request to stop, as a signal sets it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set when a signal asks trueup to stop; the pass reads it between resources, and [`Exec`](super::Exec) for children that
/// may be stopped.
#[derive(Debug, Clone, Default)]
pub(crate) struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// The flag for a signal handler to set.
    pub(crate) fn inner(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }
}
