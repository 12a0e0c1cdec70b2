//! The descriptors of a child: its standard streams, the ones passed as 3, 4, …, and no others.
//!
//! The child closes all others before it switches to another user: close-on-exec alone would leave them,
//! trueup's lock among them, to a child that its user stops before its program begins.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// Passed descriptors are first copied to this number or above, past all their target numbers, so that none
/// overwrites another.
const FIRST_FREE_FD: RawFd = 64;

/// Highest descriptor that is closed one by one on a kernel without close_range.
const MAX_CLOSED_FD: RawFd = 1 << 16;

pub(super) struct Descriptors {
    /// Standard input, output and error. `None`: trueup's own.
    streams: [Option<OwnedFd>; 3],
    extra_fds: Vec<OwnedFd>,
}

impl Descriptors {
    pub(super) fn new(streams: [Option<OwnedFd>; 3], pass: &[OwnedFd]) -> io::Result<Descriptors> {
        Ok(Descriptors {
            streams,
            extra_fds: pass.iter().map(duplicate).collect::<io::Result<_>>()?,
        })
    }

    /// Runs in the child. Besides the child's descriptors, keeps `kept` open until the program begins, and
    /// moves it. Makes only async-signal-safe calls.
    pub(super) fn install(&self, kept: &mut RawFd) -> io::Result<()> {
        let next = (3..)
            .zip(&self.extra_fds)
            .last()
            .map_or(3, |(last, _)| last + 1);
        // SAFETY: descriptors by number; this process overwrites and closes only its own copies.
        unsafe {
            *kept = check_result(libc::fcntl(*kept, libc::F_DUPFD_CLOEXEC, next))?;
            for (number, stream) in (0..).zip(&self.streams) {
                if let Some(stream) = stream {
                    // dup2 clears close-on-exec, except where both numbers are equal; trueup's own begin at
                    // 3.
                    check_result(libc::dup2(stream.as_raw_fd(), number))?;
                }
            }
            for (number, passed) in (3..).zip(&self.extra_fds) {
                check_result(libc::dup2(passed.as_raw_fd(), number))?;
            }
        }
        close_range(next, *kept - 1);
        close_range(*kept + 1, RawFd::MAX);
        Ok(())
    }
}

/// Opens `/dev/null`: reads as empty and accepts all writes.
pub(super) fn open_dev_null() -> io::Result<OwnedFd> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    Ok(file.into())
}

fn duplicate(fd: &OwnedFd) -> io::Result<OwnedFd> {
    let copy = fcntl(fd.as_fd(), FcntlArg::F_DUPFD_CLOEXEC(FIRST_FREE_FD))?;
    // SAFETY: the kernel just returned this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

fn check_result(answer: libc::c_int) -> io::Result<libc::c_int> {
    match answer {
        -1 => Err(io::Error::last_os_error()),
        answer => Ok(answer),
    }
}

fn close_range(first: RawFd, last: RawFd) {
    if first > last {
        return;
    }
    // SAFETY: descriptors by number, in a process that must have none of them.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, last, 0) == 0 {
            return;
        }
        for fd in first..=last.min(MAX_CLOSED_FD) {
            libc::close(fd);
        }
    }
}
