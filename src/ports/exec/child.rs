//! One child: start, read, wait, kill.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::pipe2;

use super::attributes::Purpose;
use super::descriptors::null;
use super::output::{Headings, LOG_LIMIT, Output};
use super::process::Process;
use super::spawn::{LONGEST, Spawn};
use super::{Command, Ended, ExecError, Finished, StopFlag};
use crate::ports::patience::Patience;
use crate::ports::secrets::Redactor;
use crate::ports::watchdog;

/// How long a group may take to end after a polite signal before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// How long to go on reading after the child itself is gone, for what its own children still print.
const DRAIN: Duration = Duration::from_millis(200);

/// How often is looked whether somebody withholds a child's end.
const WITHHELD: Duration = Duration::from_secs(1);

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
    let (stdin, theirs) = match input.is_empty() {
        true => (None, null().map_err(failed)?),
        false => {
            let (theirs, ours) = pipe2(OFlag::O_CLOEXEC).map_err(|error| failed(error.into()))?;
            (Some(File::from(ours)), theirs)
        }
    };
    let streams = [theirs, writer.try_clone().map_err(failed)?, writer].map(Some);
    let spawn = Spawn::new(&command, Purpose::Task, streams).map_err(failed)?;
    let stop = command.stop.clone().unwrap_or_default();
    let patience = Patience::new(command.timeout, command.timeout, stop);
    let mut process = match spawn.begin(&operation, &patience) {
        Err(ExecError::Stopped { .. }) => {
            return Ok(Finished {
                ended: Ended::Stopped,
                output: Output::default(),
                took: begun.elapsed(),
            });
        }
        begun => begun?,
    };
    if let Some(mut stdin) = stdin {
        // What trueup passes on standard input is shorter than a pipe's buffer.
        let _ = stdin.write_all(&input);
    }
    let mut reading = Reading::new(reader, log).map_err(failed)?;
    let ended = wait(&mut process, &mut reading, begun, &command).map_err(failed)?;
    Ok(Finished {
        ended,
        output: reading.output,
        took: begun.elapsed(),
    })
}

pub(super) fn detach(command: Command) -> Result<u32, ExecError> {
    let line = command.line();
    let operation = watchdog::begin(format!("`{line}`"), LONGEST);
    let sink = || match &command.log {
        Some(file) => file.try_clone().map(OwnedFd::from),
        None => null(),
    };
    let streams = || Ok([Some(null()?), Some(sink()?), Some(sink()?)]);
    let spawn = streams().and_then(|streams| Spawn::new(&command, Purpose::Service, streams));
    let spawn = spawn.map_err(|source| ExecError::Start { line, source })?;
    let mut process = spawn.begin(&operation, &LONGEST.into())?;
    Ok(process.leave().as_raw().cast_unsigned())
}

/// What is read from a child, and where it goes.
struct Reading {
    pipe: File,
    log: Option<File>,
    logged: u64,
    output: Output,
    open: bool,
    redactor: Redactor,
    headings: Headings,
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
            headings: Headings::default(),
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
        let _ = log.write_all(&self.headings.hide(bytes));
        if self.logged > LOG_LIMIT {
            let _ = log.write_all(b"\n[the rest of the output is not kept]\n");
        }
    }
}

fn wait(
    process: &mut Process,
    reading: &mut Reading,
    begun: Instant,
    command: &Command,
) -> io::Result<Ended> {
    let limit = command.timeout;
    let told_to_stop = || command.stop.as_ref().is_some_and(StopFlag::is_set);
    let mut pause = Duration::from_millis(1);
    let mut looked = begun;
    loop {
        // Exits are noticed by the pipe closing; the short pause covers a child that closed it early.
        reading.step(pause)?;
        if process.has_ended()? {
            drain(reading)?;
            // Whatever it left behind in its group ends with it.
            let status = process.end()?;
            return Ok(status.map_or(Ended::TimedOut(limit), how));
        }
        if looked.elapsed() >= WITHHELD {
            looked = Instant::now();
            if process.is_withheld() {
                end(process, reading)?;
                return Ok(Ended::Withheld);
            }
        }
        if begun.elapsed() >= limit {
            end(process, reading)?;
            return Ok(Ended::TimedOut(limit));
        }
        if told_to_stop() {
            end(process, reading)?;
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
fn end(process: &mut Process, reading: &mut Reading) -> io::Result<()> {
    process.signal(Signal::SIGTERM);
    let asked = Instant::now();
    while !process.has_ended()? {
        if asked.elapsed() > GRACE || process.is_withheld() {
            break;
        }
        reading.step(Duration::from_millis(20))?;
    }
    process.end()?;
    drain(reading)
}
