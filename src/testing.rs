//! Measures the peak memory use of a piece of code, for tests of this crate.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system allocator with a counter for each thread.
struct CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

thread_local! {
    static ALLOCATED: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count_bytes(bytes: isize) {
    // The counter is already destroyed while its thread exits; no test measures then.
    let _ = ALLOCATED.try_with(|now| {
        now.set(now.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now.get())));
    });
}

// SAFETY: all calls are passed unchanged to the system allocator.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_bytes(layout.size().cast_signed());
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count_bytes(-layout.size().cast_signed());
        // SAFETY: the caller upholds the contract of `dealloc`, and `place` comes from the system allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count_bytes(size.cast_signed() - layout.size().cast_signed());
        // SAFETY: the caller upholds the contract of `realloc`, and `place` comes from the system allocator.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Returns the result of `run`, and this thread's peak allocation during it, in bytes above the level at the
/// start.
pub(crate) fn peak_memory<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATED.get();
    PEAK.set(before);
    let made = run();
    (
        made,
        usize::try_from(PEAK.get() - before).unwrap_or_default(),
    )
}
