//! Which descriptors a child has: its standard streams, those that it is passed as 3, 4, …, and no other.
//!
//! All others are closed, and that before the child becomes another user: close-on-exec alone would leave them,
//! trueup's lock among them, to a child that its user stops before its program begins.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// What a child is passed is first copied to here or above: past all the places that it may get, so that none
/// overwrites another.
const FIRST_FREE_FD: RawFd = 64;

/// What a kernel without close_range is asked for one by one.
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

    /// In the child. Besides what it is to have, `kept` stays open until its program begins; it is moved.
    /// Only async-signal-safe calls.
    pub(super) fn install(&self, kept: &mut RawFd) -> io::Result<()> {
        let next = (3..)
            .zip(&self.extra_fds)
            .last()
            .map_or(3, |(last, _)| last + 1);
        // SAFETY: descriptors by number; whatever is overwritten or closed is this process's own copy.
        unsafe {
            *kept = check_result(libc::fcntl(*kept, libc::F_DUPFD_CLOEXEC, next))?;
            for (place, stream) in (0..).zip(&self.streams) {
                if let Some(stream) = stream {
                    // It also clears close-on-exec, unlike where both are the same; those of trueup begin at 3.
                    check_result(libc::dup2(stream.as_raw_fd(), place))?;
                }
            }
            for (place, passed) in (3..).zip(&self.extra_fds) {
                check_result(libc::dup2(passed.as_raw_fd(), place))?;
            }
        }
        close_range(next, *kept - 1);
        close_range(*kept + 1, RawFd::MAX);
        Ok(())
    }
}

/// What reads as empty and takes everything.
pub(super) fn open_dev_null() -> io::Result<OwnedFd> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    Ok(file.into())
}

fn duplicate(fd: &OwnedFd) -> io::Result<OwnedFd> {
    let copy = fcntl(fd.as_fd(), FcntlArg::F_DUPFD_CLOEXEC(FIRST_FREE_FD))?;
    // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
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
    // SAFETY: descriptors by number, in a process that is to have none of them.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, last, 0) == 0 {
            return;
        }
        for fd in first..=last.min(MAX_CLOSED_FD) {
            libc::close(fd);
        }
    }
}
