//! Starts a child within a time limit: forks it, sets it up and executes its program.
//!
//! Once a child has switched to another user, that user can stop it. So by then it holds nothing of trueup's,
//! and trueup's wait for it is bounded. std's own spawn keeps all descriptors open until the program begins,
//! and waits for that without a limit.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Pid, pipe2};

use super::attributes::{self, ProcessAttributes, Purpose};
use super::descriptors::Descriptors;
use super::process::ChildProcess;
use super::program::{Program, c_string};
use super::{Command, ExecError, Identity};
use crate::ports::deadline::{Deadline, DeadlineError};
use crate::ports::secrets;
use crate::ports::watchdog::Operation;

/// Least time for a child to begin, however short its deadline: a busy host is no attack.
const MIN_START_TIMEOUT: Duration = Duration::from_secs(5);

/// Most time, however long its deadline: a child that has not begun by then never will.
pub(super) const MAX_START_TIMEOUT: Duration =
    Duration::from_secs(if cfg!(test) { 10 } else { 60 });

/// Poll interval once the deadline has passed but `MIN_START_TIMEOUT` has not.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

#[cfg(test)]
thread_local! {
    /// Hook that a test's children run just before `exec`.
    pub(super) static BEFORE_EXEC: std::cell::Cell<fn()> = const { std::cell::Cell::new(|| {}) };
}

/// All settings of a child, prepared before the fork: nothing may be allocated after it.
pub(super) struct Spawn {
    line: String,
    purpose: Purpose,
    parent: Pid,
    program: Program,
    descriptors: Descriptors,
    /// Becomes its controlling terminal.
    terminal: Option<OwnedFd>,
    attributes: ProcessAttributes,
    identity: Option<Identity>,
    folder: CString,
    folder_fd: Option<OwnedFd>,
    #[cfg(test)]
    before_exec: fn(),
}

impl Spawn {
    /// `streams` are its standard input, output and error; `None`: trueup's own.
    pub(super) fn new(
        command: &Command,
        purpose: Purpose,
        streams: [Option<OwnedFd>; 3],
    ) -> io::Result<Spawn> {
        let line = command.command_line();
        let shown = secrets::redact(line.as_str());
        if shown != line {
            tracing::warn!(
                "the command line of `{shown}` contains a secret that every user of this host can read: pass it in `env`, or in a file"
            );
        }
        let folder = command.cwd.as_deref().unwrap_or(Path::new("/"));
        Ok(Spawn {
            line,
            purpose,
            parent: Pid::this(),
            program: Program::new(command)?,
            descriptors: Descriptors::new(streams, &command.extra_fds)?,
            terminal: None,
            attributes: ProcessAttributes::new(command.umask, purpose),
            identity: command.identity.clone(),
            folder: c_string(folder.as_os_str().as_bytes())?,
            folder_fd: command
                .cwd_fd
                .as_ref()
                .map(OwnedFd::try_clone)
                .transpose()?,
            #[cfg(test)]
            before_exec: BEFORE_EXEC.get(),
        })
    }

    pub(super) fn terminal(mut self, terminal: Option<OwnedFd>) -> Spawn {
        self.terminal = terminal;
        self
    }

    /// Returns once its program has begun. Kills a child that does not begin in time.
    pub(super) fn start(
        mut self,
        operation: &Operation,
        deadline: &Deadline,
    ) -> Result<ChildProcess, ExecError> {
        self.fork_and_wait(operation, deadline).map_err(|why| {
            let limit = match why {
                StartError::Io(error) => {
                    return ExecError::Start {
                        line: self.line.clone(),
                        error,
                    };
                }
                StartError::Deadline(DeadlineError::Stopped) => {
                    return ExecError::Stopped {
                        line: self.line.clone(),
                    };
                }
                StartError::Deadline(
                    DeadlineError::TimedOut(limit) | DeadlineError::IdleTimedOut(limit),
                ) => limit.max(MIN_START_TIMEOUT),
            };
            ExecError::StartTimedOut {
                line: self.line.clone(),
                user: self.identity.as_ref().map(|identity| identity.name.clone()),
                limit,
            }
        })
    }

    fn fork_and_wait(
        &mut self,
        operation: &Operation,
        deadline: &Deadline,
    ) -> Result<ChildProcess, StartError> {
        let (status, error_writer) = pipe2(OFlag::O_CLOEXEC).map_err(io::Error::from)?;
        // SAFETY: the child makes only async-signal-safe calls, on memory that was filled before.
        let process = match unsafe { libc::fork() } {
            -1 => return Err(io::Error::last_os_error().into()),
            0 => child_main(self, error_writer.as_raw_fd()),
            pid => ChildProcess::new(Pid::from_raw(pid), self.line.clone()),
        };
        operation.set_process_group(process.pid());
        drop(error_writer);
        match wait_for_exec(status, deadline)? {
            Some(error) => Err(error.into()),
            None => Ok(process),
        }
    }

    /// Each step needs the privilege that a later one drops. The user must be allowed to enter the folder,
    /// and the kernel clears the parent-death signal when the user changes (prctl(2)).
    fn set_up_child(&self, error_writer: &mut RawFd) -> io::Result<()> {
        attributes::new_session()?;
        if let Some(terminal) = &self.terminal {
            // SAFETY: a descriptor by number.
            check_result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) })?;
        }
        if let Some(folder) = &self.folder_fd {
            // SAFETY: a descriptor by number.
            check_result(unsafe { libc::fchdir(folder.as_raw_fd()) })?;
        }
        self.descriptors.install(error_writer)?;
        self.attributes.apply();
        // Leaves root's keyring while nothing can prevent it: the user may have used up the key quota.
        attributes::new_keyring();
        switch_user(self.identity.as_ref())?;
        attributes::new_keyring();
        if self.folder_fd.is_none() {
            // SAFETY: a NUL-terminated string that outlives the call.
            check_result(unsafe { libc::chdir(self.folder.as_ptr()) })?;
        }
        match self.purpose {
            Purpose::Service => Ok(()),
            Purpose::Task | Purpose::Console => self.die_with_parent(),
        }
    }

    /// Has the kernel kill this child when trueup dies.
    fn die_with_parent(&self) -> io::Result<()> {
        // SAFETY: calls that take no pointer.
        check_result(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
        // trueup may have died before the call.
        match unsafe { libc::getppid() } == self.parent.as_raw() {
            true => Ok(()),
            false => Err(Errno::ESRCH.into()),
        }
    }
}

/// Entry point of the child. A panic must not unwind into the parent's code: at this boundary it aborts.
extern "C" fn child_main(spawn: &mut Spawn, mut error_writer: RawFd) -> ! {
    let error = match spawn.set_up_child(&mut error_writer) {
        Ok(()) => {
            #[cfg(test)]
            (spawn.before_exec)();
            spawn.program.exec()
        }
        Err(error) => error,
    };
    let number = error.raw_os_error().unwrap_or(libc::EINVAL).to_ne_bytes();
    // SAFETY: a pointer to that many bytes; ends the process without exit handlers.
    unsafe {
        libc::write(error_writer, number.as_ptr().cast(), number.len());
        libc::_exit(127)
    }
}

/// Groups, group, user, in this order: each call needs the privilege that the next one drops.
fn switch_user(identity: Option<&Identity>) -> io::Result<()> {
    let Some(identity) = identity else {
        // Only root's group, whatever groups trueup's caller has. A container may forbid it.
        // SAFETY: plain system calls on a local value.
        unsafe {
            if libc::geteuid() == 0 {
                libc::setgroups(1, &0);
                libc::setgid(0);
            }
        }
        return Ok(());
    };
    // SAFETY: plain system calls on values made before the fork.
    unsafe {
        let groups = &identity.groups;
        check_result(libc::setgroups(groups.len(), groups.as_ptr()))?;
        check_result(libc::setgid(identity.gid))?;
        check_result(libc::setuid(identity.uid))
    }
}

fn check_result(answer: libc::c_int) -> io::Result<()> {
    match answer {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

enum StartError {
    Io(io::Error),
    Deadline(DeadlineError),
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> StartError {
        StartError::Io(error)
    }
}

impl From<DeadlineError> for StartError {
    fn from(why: DeadlineError) -> StartError {
        StartError::Deadline(why)
    }
}

/// Reads the child's error if its program could not be executed; on success the pipe closes without data.
fn wait_for_exec(status: OwnedFd, deadline: &Deadline) -> Result<Option<io::Error>, StartError> {
    let started = Instant::now();
    loop {
        let wait = match deadline.next_wait(started) {
            Err(DeadlineError::TimedOut(_) | DeadlineError::IdleTimedOut(_))
                if started.elapsed() < MIN_START_TIMEOUT =>
            {
                POLL_INTERVAL
            }
            Ok(_) if started.elapsed() >= MAX_START_TIMEOUT => {
                return Err(DeadlineError::TimedOut(MAX_START_TIMEOUT).into());
            }
            wait => wait?,
        };
        let millis = u16::try_from(wait.as_millis()).unwrap_or(u16::MAX);
        let mut fds = [PollFd::new(status.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(millis)) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => break,
            Err(error) => return Err(io::Error::from(error).into()),
        }
    }
    let mut number = [0; 4];
    // The pipe holds all data by now, since the child's end was the last one open.
    let length = File::from(status).read(&mut number)?;
    Ok((length > 0).then(|| io::Error::from_raw_os_error(i32::from_ne_bytes(number))))
}
