//! One child: start, read, wait, kill.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, pipe2};

use super::attributes::{self, Attributes, Purpose};
use super::output::{LOG_LIMIT, Output};
use super::{Command, Ended, ExecError, Finished, Identity, PATH, StopFlag};
use crate::ports::secrets::{self, Redactor};
use crate::ports::watchdog;

/// How long a group may take to end after a polite signal before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// How long to go on reading after the child itself is gone, for what its own children still print.
const DRAIN: Duration = Duration::from_millis(200);

pub(super) fn run(mut command: Command) -> Result<Finished, ExecError> {
    let line = command.line();
    let failed = |source| ExecError::Start {
        line: line.clone(),
        source,
    };
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(|error| failed(error.into()))?;
    let input = std::mem::take(&mut command.input);
    let log = command.log.take();
    let begun = Instant::now();
    let operation = watchdog::begin(format!("`{line}`"), command.timeout);
    let mut std_command = prepare(&command).map_err(&failed)?;
    std_command
        .stdin(if input.is_empty() {
            Stdio::null()
        } else {
            Stdio::piped()
        })
        .stdout(writer.try_clone().map_err(&failed)?)
        .stderr(writer);
    let mut child = std_command.spawn().map_err(&failed)?;
    operation.runs(Pid::from_raw(child.id().cast_signed()));
    // Our copies of the write end must close, or the pipe never ends.
    drop(std_command);
    if let Some(mut stdin) = child.stdin.take() {
        // What trueup passes on standard input is shorter than a pipe's buffer.
        let _ = stdin.write_all(&input);
    }
    let mut reading = Reading::new(reader, log).map_err(&failed)?;
    let ended = wait(&mut child, &mut reading, begun, &command).map_err(&failed)?;
    Ok(Finished {
        ended,
        output: reading.output,
        took: begun.elapsed(),
    })
}

pub(super) fn detach(command: Command) -> Result<u32, ExecError> {
    let line = command.line();
    let failed = |source| ExecError::Start {
        line: line.clone(),
        source,
    };
    let mut std_command = prepare_detached(&command).map_err(&failed)?;
    let sink = |log: &Option<File>| -> io::Result<Stdio> {
        match log {
            Some(file) => Ok(file.try_clone()?.into()),
            None => Ok(Stdio::null()),
        }
    };
    std_command
        .stdin(Stdio::null())
        .stdout(sink(&command.log).map_err(&failed)?)
        .stderr(sink(&command.log).map_err(&failed)?);
    let child = std_command.spawn().map_err(&failed)?;
    Ok(child.id())
}

pub(super) fn prepare(command: &Command) -> io::Result<std::process::Command> {
    build(command, Purpose::Task, |child| {
        attributes::new_session()?;
        child.settle()?;
        child.die_with_parent()
    })
}

fn prepare_detached(command: &Command) -> io::Result<std::process::Command> {
    build(command, Purpose::Service, |child| {
        attributes::new_session()?;
        child.settle()
    })
}

/// What a child is to become, made before it is forked: nothing may be allocated from then on.
pub(super) struct Preparation {
    parent: libc::pid_t,
    attributes: Attributes,
    identity: Option<Identity>,
    folder: CString,
    pass: Vec<OwnedFd>,
}

impl Preparation {
    /// The attributes, the user, the folder and the descriptors, in this order: each step needs the
    /// privilege that the next one gives up, and the folder is the user's to enter.
    pub(super) fn settle(&self) -> io::Result<()> {
        self.attributes.apply();
        become_identity(self.identity.as_ref())?;
        attributes::new_keyring();
        // SAFETY: a string with an end that outlives the call.
        if unsafe { libc::chdir(self.folder.as_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        place_descriptors(&self.pass)
    }

    /// Has the kernel kill this child when trueup dies. To be called once the child is who it is to be: the
    /// kernel forgets it at a change of the user (prctl(2)).
    pub(super) fn die_with_parent(&self) -> io::Result<()> {
        // SAFETY: async-signal-safe calls that take no pointer.
        let set = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
        // It may have died before.
        match unsafe { libc::getppid() } == self.parent {
            true => Ok(()),
            false => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        }
    }
}

/// `become_child` makes only async-signal-safe calls.
pub(super) fn build(
    command: &Command,
    purpose: Purpose,
    become_child: impl Fn(&Preparation) -> io::Result<()> + Send + Sync + 'static,
) -> io::Result<std::process::Command> {
    let invalid = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
    let mut argv = command.argv.iter();
    let program = argv.next().ok_or_else(|| invalid("the command is empty"))?;
    let mut std_command = std::process::Command::new(program);
    std_command
        .args(argv)
        .env_clear()
        .env("PATH", PATH)
        .envs(&command.env);
    let line = command.line();
    let shown = secrets::redact(line.as_str());
    if shown != line {
        tracing::warn!(
            "a secret stands on the command line of `{shown}`, where every user of this host can read it: give it in `env`, or in a file"
        );
    }
    let folder = command.cwd.as_deref().unwrap_or(Path::new("/"));
    let folder = CString::new(folder.as_os_str().as_bytes())
        .map_err(|_| invalid("the folder has a zero byte in its name"))?;
    // Copies above the range 3.. that they are to be placed in, so that none overwrites another.
    let pass: Vec<OwnedFd> = command
        .pass
        .iter()
        .map(|fd| {
            let raw = fcntl(fd.as_fd(), FcntlArg::F_DUPFD_CLOEXEC(64)).map_err(io::Error::from)?;
            // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
            Ok(unsafe { OwnedFd::from_raw_fd(raw) })
        })
        .collect::<io::Result<_>>()?;
    let preparation = Preparation {
        parent: Pid::this().as_raw(),
        attributes: Attributes::new(command.umask, purpose),
        identity: command.identity.clone(),
        folder,
        pass,
    };
    // SAFETY: the closure runs between fork and exec; it makes only async-signal-safe calls and
    // touches only memory that was filled before the fork.
    unsafe {
        std_command.pre_exec(move || become_child(&preparation));
    }
    Ok(std_command)
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
    let ok = unsafe {
        libc::setgroups(identity.groups.len(), identity.groups.as_ptr()) == 0
            && libc::setgid(identity.gid) == 0
            && libc::setuid(identity.uid) == 0
    };
    if ok {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn place_descriptors(pass: &[OwnedFd]) -> io::Result<()> {
    for (place, fd) in (3..).zip(pass) {
        // SAFETY: dup2 on descriptors that are ours; it also clears close-on-exec.
        if unsafe { libc::dup2(fd.as_raw_fd(), place) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// What is read from a child, and where it goes.
struct Reading {
    pipe: File,
    log: Option<File>,
    logged: u64,
    output: Output,
    open: bool,
    redactor: Redactor,
}

impl Reading {
    fn new(pipe: OwnedFd, log: Option<File>) -> io::Result<Reading> {
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Reading {
            pipe: pipe.into(),
            log,
            logged: 0,
            output: Output::default(),
            open: true,
            redactor: Redactor::new(),
        })
    }

    /// Reads what is there, waiting at most `timeout` for it.
    fn step(&mut self, timeout: Duration) -> io::Result<()> {
        if !self.open {
            std::thread::sleep(timeout);
            return Ok(());
        }
        let millis = u16::try_from(timeout.as_millis()).unwrap_or(u16::MAX);
        let mut fds = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(millis)).unwrap_or(0) == 0 {
            return Ok(());
        }
        let mut buffer = [0; 16 << 10];
        match self.pipe.read(&mut buffer) {
            Ok(0) => self.close(),
            Ok(n) => self.keep(&buffer[..n]),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Nothing more is read.
    fn close(&mut self) {
        self.open = false;
        let last = self.redactor.end();
        self.remember(&last);
    }

    fn keep(&mut self, bytes: &[u8]) {
        let shown = self.redactor.push(bytes);
        self.remember(&shown);
    }

    fn remember(&mut self, bytes: &[u8]) {
        self.output.push(bytes);
        let Some(log) = &mut self.log else { return };
        if self.logged > LOG_LIMIT {
            return;
        }
        self.logged += bytes.len() as u64;
        // A full disk must not fail the step that fills it more: the output in memory remains.
        let _ = log.write_all(bytes);
        if self.logged > LOG_LIMIT {
            let _ = log.write_all(b"\n[the rest of the output is not kept]\n");
        }
    }
}

fn wait(
    child: &mut Child,
    reading: &mut Reading,
    begun: Instant,
    command: &Command,
) -> io::Result<Ended> {
    let limit = command.timeout;
    let told_to_stop = || command.stop.as_ref().is_some_and(StopFlag::is_set);
    let group = Pid::from_raw(child.id() as i32);
    let mut pause = Duration::from_millis(1);
    loop {
        // Exits are noticed by the pipe closing; the short pause covers a child that closed it early.
        reading.step(pause)?;
        if let Some(status) = child.try_wait()? {
            drain(reading)?;
            // Whatever it left behind in its group ends with it.
            let _ = killpg(group, Signal::SIGKILL);
            return Ok(how(status));
        }
        if begun.elapsed() >= limit {
            end(child, group, reading)?;
            return Ok(Ended::TimedOut(limit));
        }
        if told_to_stop() {
            end(child, group, reading)?;
            return Ok(Ended::Stopped);
        }
        let left = limit.saturating_sub(begun.elapsed());
        pause = (pause * 2).min(Duration::from_millis(50)).min(left);
    }
}

pub(super) fn how(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Exited(code),
        (None, Some(signal)) => Ended::Signalled(signal),
        (None, None) => Ended::Exited(-1),
    }
}

fn drain(reading: &mut Reading) -> io::Result<()> {
    let begun = Instant::now();
    while reading.open && begun.elapsed() < DRAIN {
        let before = reading.output.total();
        reading.step(Duration::from_millis(5))?;
        if reading.open && reading.output.total() == before && begun.elapsed() > DRAIN / 4 {
            break;
        }
    }
    reading.close();
    Ok(())
}

/// Asks the group to end, then kills it.
fn end(child: &mut Child, group: Pid, reading: &mut Reading) -> io::Result<()> {
    let _ = killpg(group, Signal::SIGTERM);
    let asked = Instant::now();
    while child.try_wait()?.is_none() {
        if asked.elapsed() > GRACE {
            break;
        }
        reading.step(Duration::from_millis(20))?;
    }
    let _ = killpg(group, Signal::SIGKILL);
    child.wait()?;
    drain(reading)
}
