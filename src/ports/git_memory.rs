//! Memory limit for libgit2, independent of what a git server sends.
//!
//! An advertisement, a pack or a delta declares in a few bytes how large an object is to become. Instead of
//! limiting each of these, trueup supplies libgit2's allocator: an allocation beyond the budget fails like
//! any other, and libgit2 returns an error.

use std::ffi::{c_char, c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use nix::libc;
use nix::unistd::{SysconfVar, sysconf};

/// Bounds in bytes; the limit is half of the host's memory within them.
const MAX_LIMIT: usize = 1 << 30;
const MIN_LIMIT: usize = 512 << 20;

static LIMIT: AtomicUsize = AtomicUsize::new(MAX_LIMIT);
/// Sometimes negative: allocations from before the limit was installed were not counted.
static ALLOCATED: AtomicIsize = AtomicIsize::new(0);

/// `git_allocator` of libgit2's `sys/alloc.h`.
#[repr(C)]
struct Allocator {
    malloc: extern "C" fn(usize, *const c_char, c_int) -> *mut c_void,
    realloc: extern "C" fn(*mut c_void, usize, *const c_char, c_int) -> *mut c_void,
    free: extern "C" fn(*mut c_void),
}

/// Installs the limit. Must be called before the first use of libgit2.
pub(crate) fn install_limit() -> Result<(), String> {
    static DONE: OnceLock<c_int> = OnceLock::new();
    let answer = DONE.get_or_init(|| {
        LIMIT.store(default_limit(), Ordering::Relaxed);
        let allocator = Allocator {
            malloc,
            realloc,
            free,
        };
        libgit2_sys::init();
        // SAFETY: libgit2 copies the three pointers, to functions that live as long as the process. They use
        // the same allocator as libgit2's own, so each may free what the other allocated.
        unsafe {
            libgit2_sys::git_libgit2_opts(
                libgit2_sys::GIT_OPT_SET_ALLOCATOR as c_int,
                std::ptr::from_ref(&allocator),
            )
        }
    });
    match answer {
        0 => Ok(()),
        code => Err(format!("cannot limit its memory ({code})")),
    }
}

/// Raises the limit to at least this many bytes: for an operator who configured large files.
pub(crate) fn raise_limit(bytes: usize) {
    LIMIT.fetch_max(bytes, Ordering::Relaxed);
}

/// The limit in bytes.
pub(crate) fn limit() -> usize {
    LIMIT.load(Ordering::Relaxed)
}

fn default_limit() -> usize {
    let ask = |variable| {
        let answer = sysconf(variable).ok().flatten();
        answer.and_then(|number| usize::try_from(number).ok())
    };
    let all = ask(SysconfVar::_PHYS_PAGES).zip(ask(SysconfVar::PAGE_SIZE));
    let half = all.map_or(MAX_LIMIT, |(pages, size)| pages.saturating_mul(size) / 2);
    half.clamp(MIN_LIMIT, MAX_LIMIT)
}

/// Whether an allocation of this size stays within the limit.
fn fits(more: usize) -> bool {
    let taken = usize::try_from(ALLOCATED.load(Ordering::Relaxed)).unwrap_or(0);
    taken.saturating_add(more) <= limit()
}

/// The real size of an allocation; 0 for null.
fn allocated_size(block: *mut c_void) -> isize {
    // SAFETY: it is null or came from `malloc` or `realloc`.
    let bytes = unsafe { libc::malloc_usable_size(block) };
    // No allocation is larger than `isize::MAX`.
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

extern "C" fn malloc(bytes: usize, _: *const c_char, _: c_int) -> *mut c_void {
    if !fits(bytes) {
        return std::ptr::null_mut();
    }
    // SAFETY: `malloc` accepts any size.
    let block = unsafe { libc::malloc(bytes) };
    ALLOCATED.fetch_add(allocated_size(block), Ordering::Relaxed);
    block
}

extern "C" fn realloc(old: *mut c_void, bytes: usize, _: *const c_char, _: c_int) -> *mut c_void {
    let before = allocated_size(old);
    // During a move, both blocks are allocated.
    if bytes > before.unsigned_abs() && !fits(bytes) {
        return std::ptr::null_mut();
    }
    // SAFETY: `old` is null or came from here.
    let block = unsafe { libc::realloc(old, bytes) };
    if !block.is_null() {
        ALLOCATED.fetch_add(allocated_size(block) - before, Ordering::Relaxed);
    }
    block
}

extern "C" fn free(block: *mut c_void) {
    ALLOCATED.fetch_sub(allocated_size(block), Ordering::Relaxed);
    // SAFETY: it is null or came from here.
    unsafe { libc::free(block) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_over_the_memory_limit_is_a_libgit2_error() {
        install_limit().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let repo = git2::Repository::init_bare(folder.path()).unwrap();
        // A loose blob whose header claims sixteen terabytes.
        let id = "4f2c9d0e4f2c9d0e4f2c9d0e4f2c9d0e4f2c9d0e";
        let path = folder.path().join("objects/4f");
        std::fs::create_dir_all(&path).unwrap();
        let mut loose = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut loose, b"blob 17592186044416\0x").unwrap();
        std::fs::write(path.join(&id[2..]), loose.finish().unwrap()).unwrap();
        let odb = repo.odb().unwrap();
        let error = odb.read(git2::Oid::from_str(id).unwrap()).err().unwrap();
        assert_eq!(error.class(), git2::ErrorClass::NoMemory, "{error}");
    }
}
