//! A child to talk with: what it prints is read while it runs, and it is told more.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;

use super::attributes::Purpose;
use super::output::Output;
use super::process::Process;
use super::spawn::Spawn;
use super::{Command, Ended, ExecError, child};
use crate::ports::patience::Patience;
use crate::ports::watchdog::{self, Operation};

/// How much of what the child says is held while it is being written to, in bytes.
const AHEAD: usize = 1 << 20;

/// How long a child that was told nothing more may take to end.
const GRACE: Duration = Duration::from_secs(2);

/// A running child between two pipes. Its whole group ends with this value.
///
/// Reading and writing wait for as long as there is patience; an error of either is a
/// [`GivenUp`](crate::ports::patience::GivenUp) or what the system says.
#[derive(Debug)]
pub struct Talk {
    process: Process,
    stdin: Option<File>,
    /// `None` at its end.
    stdout: Option<File>,
    stderr: Option<File>,
    said: Output,
    inbox: Vec<u8>,
    patience: Patience,
    heard: Instant,
    ended: Option<Ended>,
    #[allow(dead_code, reason = "ends when dropped")]
    operation: Operation,
}

impl Talk {
    pub(super) fn start(command: &Command, patience: Patience) -> Result<Talk, ExecError> {
        let failed = |source| ExecError::Start {
            line: command.line(),
            source,
        };
        let operation = watchdog::begin(format!("`{}`", command.line()), patience.left());
        let pipes = || -> io::Result<_> {
            let [(reads, stdin), (stdout, prints), (stderr, complains)] = [
                pipe2(OFlag::O_CLOEXEC)?,
                pipe2(OFlag::O_CLOEXEC)?,
                pipe2(OFlag::O_CLOEXEC)?,
            ];
            for ours in [&stdin, &stdout, &stderr] {
                fcntl(ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            }
            let streams = [reads, prints, complains].map(Some);
            let ours = [stdin, stdout, stderr].map(|pipe| Some(File::from(pipe)));
            Ok((Spawn::new(command, Purpose::Task, streams)?, ours))
        };
        let (spawn, [stdin, stdout, stderr]) = pipes().map_err(failed)?;
        Ok(Talk {
            process: spawn.begin(&operation, &patience)?,
            stdin,
            stdout,
            stderr,
            said: Output::default(),
            inbox: Vec::new(),
            patience,
            heard: Instant::now(),
            ended: None,
            operation,
        })
    }

    /// Tells the child that there is nothing more to come and waits a moment for its end. Returns
    /// how it ended and what it printed on standard error. What it still says is not kept.
    pub fn end(&mut self) -> (Ended, String) {
        self.stdin = None;
        let asked = Instant::now();
        let in_time = loop {
            match self.process.has_ended() {
                Ok(false) if self.ended.is_none() && asked.elapsed() < GRACE => {}
                answer => break answer.unwrap_or(false),
            }
            self.inbox.clear();
            // It may wait for somebody to read what it says.
            let _ = self.turn(false, Duration::from_millis(5));
        };
        // All that it printed is in the pipe by now.
        while self.stderr.is_some() && matches!(self.turn(false, Duration::ZERO), Ok(true)) {
            self.inbox.clear();
        }
        let ended = match (self.ended, self.process.end()) {
            (Some(ended), _) => ended,
            (None, Ok(Some(status))) if in_time => child::how(status),
            _ => Ended::TimedOut(GRACE),
        };
        self.ended = Some(ended);
        (ended, self.said.text())
    }

    /// Waits until something came or can be written, and takes in what came. Whether anything did.
    fn turn(&mut self, writing: bool, wait: Duration) -> io::Result<bool> {
        let room = self.inbox.len() < AHEAD;
        let stdin = self.stdin.as_ref().filter(|_| writing);
        let stdout = self.stdout.as_ref().filter(|_| room);
        let wanted = [
            (stdin, PollFlags::POLLOUT),
            (stdout, PollFlags::POLLIN),
            (self.stderr.as_ref(), PollFlags::POLLIN),
        ];
        let ready = ready(
            wanted.map(|(file, flags)| Some((file?.as_fd(), flags))),
            wait,
        )?;
        if ready[1] {
            let mut buffer = [0; 16 << 10];
            match take(&mut self.stdout, &mut buffer)? {
                0 => {}
                n => self.inbox.extend_from_slice(&buffer[..n]),
            }
        }
        if ready[2] {
            let mut buffer = [0; 4 << 10];
            let n = take(&mut self.stderr, &mut buffer)?;
            self.said.push(&buffer[..n]);
        }
        let any = ready.contains(&true);
        if any {
            self.heard = Instant::now();
        }
        Ok(any)
    }

    fn wait(&mut self, writing: bool) -> io::Result<()> {
        let wait = self.patience.wait(self.heard).map_err(io::Error::other)?;
        self.turn(writing, wait)?;
        Ok(())
    }
}

impl Read for Talk {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.heard = Instant::now();
        while self.inbox.is_empty() {
            if self.stdout.is_none() {
                return Ok(0);
            }
            self.wait(false)?;
        }
        let length = self.inbox.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.inbox[..length]);
        self.inbox.drain(..length);
        Ok(length)
    }
}

impl Write for Talk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.heard = Instant::now();
        loop {
            let Some(stdin) = &mut self.stdin else {
                return Err(ErrorKind::BrokenPipe.into());
            };
            match stdin.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait(true)?,
                answer => return answer,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Which of these can be read or written, after waiting at most `wait` for one.
fn ready(
    wanted: [Option<(BorrowedFd<'_>, PollFlags)>; 3],
    wait: Duration,
) -> io::Result<[bool; 3]> {
    let mut fds: Vec<PollFd<'_>> = wanted
        .iter()
        .flatten()
        .map(|(fd, flags)| PollFd::new(*fd, *flags))
        .collect();
    let millis = u16::try_from(wait.as_millis()).unwrap_or(u16::MAX);
    match poll(&mut fds, PollTimeout::from(millis)) {
        // A signal: whoever waits looks again.
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut answers = fds.iter().map(|fd| fd.any().unwrap_or(false));
    Ok(wanted.map(|fd| fd.is_some() && answers.next().unwrap_or(false)))
}

/// Reads what is there; closes the pipe at its end.
fn take(pipe: &mut Option<File>, buffer: &mut [u8]) -> io::Result<usize> {
    let Some(file) = pipe else { return Ok(0) };
    match file.read(buffer) {
        Ok(0) => {
            *pipe = None;
            Ok(0)
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(0)
        }
        answer => answer,
    }
}
