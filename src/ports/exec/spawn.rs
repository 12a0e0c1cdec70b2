//! The beginning of a child: forked, made what it is to be, and its program begun, within a time.
//!
//! From the moment when a child has become another user, that user can stop it. So it then has nothing of
//! trueup's, and nobody waits for it without an end: std's own way keeps all descriptors open until the program
//! begins, and waits for that for ever.

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

/// How long any child may take to begin, however short its deadline: a busy host is no attack.
const MIN_START_TIMEOUT: Duration = Duration::from_secs(5);

/// And however long it is: whoever has not begun by then does not begin any more.
pub(super) const MAX_START_TIMEOUT: Duration =
    Duration::from_secs(if cfg!(test) { 10 } else { 60 });

/// How often to look while a deadline does not say.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

#[cfg(test)]
thread_local! {
    /// What the children of a test do last before their program begins.
    pub(super) static BEFORE_EXEC: std::cell::Cell<fn()> = const { std::cell::Cell::new(|| {}) };
}

/// Everything that a child is to be, made before it is forked: nothing may be allocated from then on.
pub(super) struct Spawn {
    line: String,
    purpose: Purpose,
    parent: Pid,
    program: Program,
    descriptors: Descriptors,
    /// To become its controlling one.
    terminal: Option<OwnedFd>,
    attributes: ProcessAttributes,
    identity: Option<Identity>,
    folder: CString,
    #[cfg(test)]
    before_exec: fn(),
}

impl Spawn {
    /// `streams` are its standard input, output and error; `None` is trueup's own.
    pub(super) fn new(
        command: &Command,
        purpose: Purpose,
        streams: [Option<OwnedFd>; 3],
    ) -> io::Result<Spawn> {
        let line = command.command_line();
        let shown = secrets::redact(line.as_str());
        if shown != line {
            tracing::warn!(
                "a secret stands on the command line of `{shown}`, where every user of this host can read it: give it in `env`, or in a file"
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
            #[cfg(test)]
            before_exec: BEFORE_EXEC.get(),
        })
    }

    pub(super) fn terminal(mut self, terminal: Option<OwnedFd>) -> Spawn {
        self.terminal = terminal;
        self
    }

    /// Returns once its program has begun. Whoever does not begin in time is killed.
    pub(super) fn start(
        mut self,
        operation: &Operation,
        deadline: &Deadline,
    ) -> Result<ChildProcess, ExecError> {
        self.fork_and_wait(operation, deadline).map_err(|why| {
            let limit = match why {
                StartError::Io(source) => {
                    return ExecError::Start {
                        line: self.line.clone(),
                        source,
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

    /// Each step needs the privilege that a later one gives up. The folder is the user's to enter, and the
    /// kernel forgets at a change of the user with whom the child is to die (prctl(2)).
    fn set_up_child(&self, error_writer: &mut RawFd) -> io::Result<()> {
        attributes::new_session()?;
        if let Some(terminal) = &self.terminal {
            // SAFETY: a descriptor by number.
            check_result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) })?;
        }
        self.descriptors.install(error_writer)?;
        self.attributes.apply();
        // Root's is left while nothing can hinder that: the user may have used up his share of keys.
        attributes::new_keyring();
        switch_user(self.identity.as_ref())?;
        attributes::new_keyring();
        // SAFETY: a string with an end that outlives the call.
        check_result(unsafe { libc::chdir(self.folder.as_ptr()) })?;
        match self.purpose {
            Purpose::Service => Ok(()),
            Purpose::Task | Purpose::Console => self.die_with_parent(),
        }
    }

    /// Has the kernel kill this child when trueup dies.
    fn die_with_parent(&self) -> io::Result<()> {
        // SAFETY: calls that take no pointer.
        check_result(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
        // It may have died before.
        match unsafe { libc::getppid() } == self.parent.as_raw() {
            true => Ok(()),
            false => Err(Errno::ESRCH.into()),
        }
    }
}

/// The child. A panic must not get past here, into what the parent was at: across this boundary it aborts.
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
    // SAFETY: a pointer to so many bytes; the end of a process without its exit handlers.
    unsafe {
        libc::write(error_writer, number.as_ptr().cast(), number.len());
        libc::_exit(127)
    }
}

/// Groups, group, user, in this order: each needs the privilege that the next one gives up.
fn switch_user(identity: Option<&Identity>) -> io::Result<()> {
    let Some(identity) = identity else {
        // Root's group alone, whatever else whoever started trueup belongs to. A container may forbid it.
        // SAFETY: plain system calls on a value of ours.
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

/// What the child tells of why its program could not be begun; when it begins, the pipe ends without a word.
fn wait_for_exec(status: OwnedFd, deadline: &Deadline) -> Result<Option<io::Error>, StartError> {
    let begun = Instant::now();
    loop {
        let wait = match deadline.next_wait(begun) {
            Err(DeadlineError::TimedOut(_) | DeadlineError::IdleTimedOut(_))
                if begun.elapsed() < MIN_START_TIMEOUT =>
            {
                POLL_INTERVAL
            }
            Ok(_) if begun.elapsed() >= MAX_START_TIMEOUT => {
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
    // All that comes is in the pipe by now, and the child's end of it is the last.
    let told = File::from(status).read(&mut number)?;
    Ok((told > 0).then(|| io::Error::from_raw_os_error(i32::from_ne_bytes(number))))
}
