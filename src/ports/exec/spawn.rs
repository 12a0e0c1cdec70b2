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

use super::attributes::{self, Attributes, Purpose};
use super::descriptors::Descriptors;
use super::process::Process;
use super::program::{Program, string};
use super::{Command, ExecError, Identity};
use crate::ports::patience::{GivenUp, Patience};
use crate::ports::secrets;
use crate::ports::watchdog::Operation;

/// How long any child may take to begin, however short its deadline: a busy host is no attack.
const MOMENT: Duration = Duration::from_secs(5);

/// And however long it is: whoever has not begun by then does not begin any more.
pub(super) const LONGEST: Duration = Duration::from_secs(if cfg!(test) { 10 } else { 60 });

/// How often to look while a deadline does not say.
const SOON: Duration = Duration::from_millis(100);

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
    attributes: Attributes,
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
        let line = command.line();
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
            descriptors: Descriptors::new(streams, &command.pass)?,
            terminal: None,
            attributes: Attributes::new(command.umask, purpose),
            identity: command.identity.clone(),
            folder: string(folder.as_os_str().as_bytes())?,
            #[cfg(test)]
            before_exec: BEFORE_EXEC.get(),
        })
    }

    pub(super) fn terminal(mut self, terminal: Option<OwnedFd>) -> Spawn {
        self.terminal = terminal;
        self
    }

    /// Returns once its program has begun. Whoever does not begin in time is killed.
    pub(super) fn begin(
        mut self,
        operation: &Operation,
        patience: &Patience,
    ) -> Result<Process, ExecError> {
        self.fork(operation, patience).map_err(|why| {
            let limit = match why {
                NotBegun::Error(source) => {
                    return ExecError::Start {
                        line: self.line.clone(),
                        source,
                    };
                }
                NotBegun::GivenUp(GivenUp::Stopped) => {
                    return ExecError::Stopped {
                        line: self.line.clone(),
                    };
                }
                NotBegun::GivenUp(GivenUp::Late(limit) | GivenUp::Silent(limit)) => {
                    limit.max(MOMENT)
                }
            };
            ExecError::NotBegun {
                line: self.line.clone(),
                user: self.identity.as_ref().map(|identity| identity.name.clone()),
                limit,
            }
        })
    }

    fn fork(&mut self, operation: &Operation, patience: &Patience) -> Result<Process, NotBegun> {
        let (status, teller) = pipe2(OFlag::O_CLOEXEC).map_err(io::Error::from)?;
        // SAFETY: the child makes only async-signal-safe calls, on memory that was filled before.
        let process = match unsafe { libc::fork() } {
            -1 => return Err(io::Error::last_os_error().into()),
            0 => become_child(self, teller.as_raw_fd()),
            pid => Process::new(Pid::from_raw(pid), self.line.clone()),
        };
        operation.runs(process.pid());
        drop(teller);
        match why_not(status, patience)? {
            Some(error) => Err(error.into()),
            None => Ok(process),
        }
    }

    /// Each step needs the privilege that a later one gives up. The folder is the user's to enter, and the
    /// kernel forgets at a change of the user with whom the child is to die (prctl(2)).
    fn settle(&self, teller: &mut RawFd) -> io::Result<()> {
        attributes::new_session()?;
        if let Some(terminal) = &self.terminal {
            // SAFETY: a descriptor by number.
            checked(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) })?;
        }
        self.descriptors.place(teller)?;
        self.attributes.apply();
        // Root's is left while nothing can hinder that: the user may have used up his share of keys.
        attributes::new_keyring();
        become_identity(self.identity.as_ref())?;
        attributes::new_keyring();
        // SAFETY: a string with an end that outlives the call.
        checked(unsafe { libc::chdir(self.folder.as_ptr()) })?;
        match self.purpose {
            Purpose::Service => Ok(()),
            Purpose::Task | Purpose::Console => self.die_with_parent(),
        }
    }

    /// Has the kernel kill this child when trueup dies.
    fn die_with_parent(&self) -> io::Result<()> {
        // SAFETY: calls that take no pointer.
        checked(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
        // It may have died before.
        match unsafe { libc::getppid() } == self.parent.as_raw() {
            true => Ok(()),
            false => Err(Errno::ESRCH.into()),
        }
    }
}

/// The child. A panic must not get past here, into what the parent was at: across this boundary it aborts.
extern "C" fn become_child(spawn: &mut Spawn, mut teller: RawFd) -> ! {
    let error = match spawn.settle(&mut teller) {
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
        libc::write(teller, number.as_ptr().cast(), number.len());
        libc::_exit(127)
    }
}

/// Groups, group, user, in this order: each needs the privilege that the next one gives up.
fn become_identity(identity: Option<&Identity>) -> io::Result<()> {
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
        checked(libc::setgroups(groups.len(), groups.as_ptr()))?;
        checked(libc::setgid(identity.gid))?;
        checked(libc::setuid(identity.uid))
    }
}

fn checked(answer: libc::c_int) -> io::Result<()> {
    match answer {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

enum NotBegun {
    Error(io::Error),
    GivenUp(GivenUp),
}

impl From<io::Error> for NotBegun {
    fn from(error: io::Error) -> NotBegun {
        NotBegun::Error(error)
    }
}

impl From<GivenUp> for NotBegun {
    fn from(why: GivenUp) -> NotBegun {
        NotBegun::GivenUp(why)
    }
}

/// What the child tells of why its program could not be begun; when it begins, the pipe ends without a word.
fn why_not(status: OwnedFd, patience: &Patience) -> Result<Option<io::Error>, NotBegun> {
    let begun = Instant::now();
    loop {
        let wait = match patience.wait(begun) {
            Err(GivenUp::Late(_) | GivenUp::Silent(_)) if begun.elapsed() < MOMENT => SOON,
            Ok(_) if begun.elapsed() >= LONGEST => return Err(GivenUp::Late(LONGEST).into()),
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
