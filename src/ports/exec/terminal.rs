//! Terminals: the operator's, and the pty that a command gets instead.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::OFlag;
use nix::libc;
use nix::pty::{PtyMaster, grantpt, posix_openpt, unlockpt};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{Uid, fchown, getpgrp, tcgetpgrp};

use super::Command;

/// Standard input, output or error.
pub(super) fn std_stream(number: RawFd) -> BorrowedFd<'static> {
    debug_assert!((0..=2).contains(&number));
    // SAFETY: the runtime opens all three before `main`, and trueup closes none of them.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Whether this process may read typed input and configure the terminal.
pub(super) fn is_in_foreground() -> bool {
    tcgetpgrp(std_stream(0)).is_ok_and(|group| group == getpgrp()) || !has_job_control()
}

/// Standard input may be a terminal that is not the controlling one: then no other group is in its
/// foreground.
fn has_job_control() -> bool {
    tcgetpgrp(std_stream(0)).is_ok()
}

/// Opens a pty with the settings of the operator's terminal; the command's user may also open it by name.
pub(super) fn open_pty(
    screen: &File,
    keyboard: bool,
    command: &Command,
) -> io::Result<(PtyMaster, OwnedFd)> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let master = posix_openpt(flags)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // Opened through the master and not by a path, which guarantees that it is this master's other end.
    // SAFETY: takes a number and returns a new descriptor, which nothing else owns.
    let slave = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    if slave < 0 {
        return Err(io::Error::last_os_error());
    }
    let slave = unsafe { OwnedFd::from_raw_fd(slave) };
    if let Some(identity) = &command.identity {
        fchown(&slave, Some(Uid::from_raw(identity.uid)), None)?;
    }
    let mut like = tcgetattr(screen)?;
    if !keyboard {
        // The operator's terminal still does this.
        like.output_flags.remove(OutputFlags::OPOST);
    }
    tcsetattr(&slave, SetArg::TCSANOW, &like)?;
    copy_window_size(screen, &master);
    Ok((master, slave))
}

pub(super) fn copy_window_size(from: &File, to: &PtyMaster) {
    // SAFETY: a plain struct that is valid when zeroed, for the length of two calls.
    unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        if libc::ioctl(from.as_raw_fd(), libc::TIOCGWINSZ, &mut size) == 0 {
            libc::ioctl(to.as_raw_fd(), libc::TIOCSWINSZ, &size);
        }
    }
}

/// Puts standard input into raw mode while this value lives: each key is passed on as typed, and the terminal
/// interprets none.
pub(super) struct RawMode(Termios);

impl RawMode {
    pub(super) fn enable() -> io::Result<RawMode> {
        let before = tcgetattr(std_stream(0))?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(std_stream(0), SetArg::TCSADRAIN, &raw)?;
        Ok(RawMode(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let mut blocked = SigSet::empty();
        blocked.add(Signal::SIGTTOU);
        let _ = blocked.thread_block();
        // Unread input may be the terminal's reply to a query that the command printed: discard it, so that
        // the shell does not read it as input.
        let _ = tcsetattr(std_stream(0), SetArg::TCSAFLUSH, &self.0);
        let _ = blocked.thread_unblock();
    }
}
