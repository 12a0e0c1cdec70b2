//! What tests of this crate measure: how much memory a piece of code has at most.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, which counts for each thread.
struct CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

thread_local! {
    static ALLOCATED: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count_bytes(bytes: isize) {
    // Not there any more while a thread ends, when nobody measures.
    let _ = ALLOCATED.try_with(|now| {
        now.set(now.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now.get())));
    });
}

// SAFETY: all is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_bytes(layout.size().cast_signed());
        // SAFETY: the caller keeps to the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count_bytes(-layout.size().cast_signed());
        // SAFETY: the caller keeps to the contract of `dealloc`, and `place` is the system's.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count_bytes(size.cast_signed() - layout.size().cast_signed());
        // SAFETY: the caller keeps to the contract of `realloc`, and `place` is the system's.
        unsafe { System.realloc(place, layout, size) }
    }
}

/// What `run` returns, and how many bytes this thread had at most while it ran, over what it had before.
pub fn peak_memory<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATED.get();
    PEAK.set(before);
    let made = run();
    (
        made,
        usize::try_from(PEAK.get() - before).unwrap_or_default(),
    )
}
