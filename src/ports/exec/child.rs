//! Runs one child: starts it, reads its output, waits for it, kills it.

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
use super::descriptors::open_dev_null;
use super::memfd::sealed_input;
use super::output::{HeadingEscaper, LOG_LIMIT, Output};
use super::process::ChildProcess;
use super::spawn::{MAX_START_TIMEOUT, Spawn};
use super::{Command, CompletedCommand, ExecError, ExitReason, OutputObserver, exit};
use crate::ports::deadline::Deadline;
use crate::ports::secrets::Redactor;
use crate::ports::watchdog;

/// Time for a group to end after SIGTERM before it is killed.
const GRACE_PERIOD: Duration = Duration::from_secs(5);

/// Longest pause between two checks whether the child has ended.
const MAX_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Time to continue reading after the child has ended, for output of its own children.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(200);

/// Interval at which trueup checks whether a tracer withholds the child's end.
const TRACER_CHECK_INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn run(mut command: Command) -> Result<CompletedCommand, ExecError> {
    let line = command.command_line();
    let failed = |error| ExecError::Start {
        line: line.clone(),
        error,
    };
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(|error| failed(error.into()))?;
    let input = std::mem::take(&mut command.input);
    let (log, observer) = (command.log.take(), command.observer.take());
    let operation = watchdog::begin(format!("`{line}`"), command.timeout);
    let stdin = match input.is_empty() {
        true => open_dev_null(),
        false => sealed_input(&input),
    };
    let streams = [
        stdin.map_err(failed)?,
        writer.try_clone().map_err(failed)?,
        writer,
    ]
    .map(Some);
    let spawn = Spawn::new(&command, Purpose::Task, streams).map_err(failed)?;
    let stop = command.stop.clone().unwrap_or_default();
    let deadline = Deadline::new(command.timeout, command.timeout, stop);
    let mut process = match spawn.start(&operation, &deadline) {
        Err(ExecError::Stopped { .. }) => {
            return Ok(CompletedCommand {
                exit_reason: ExitReason::Stopped,
                output: Output::default(),
            });
        }
        started => started?,
    };
    let oom_kills_before = exit::oom_kills();
    let mut reader = OutputReader::new(reader, log, observer).map_err(failed)?;
    let mut exit_reason = wait_for_exit(&mut process, &mut reader, &deadline).map_err(failed)?;
    let oom_kills = exit::oom_kills();
    if exit_reason.is_kill() && oom_kills_before.is_some() && oom_kills > oom_kills_before {
        exit_reason = ExitReason::OutOfMemory;
    }
    Ok(CompletedCommand {
        exit_reason,
        output: reader.output,
    })
}

pub(super) fn spawn_detached(command: Command) -> Result<u32, ExecError> {
    let line = command.command_line();
    let operation = watchdog::begin(format!("`{line}`"), MAX_START_TIMEOUT);
    let sink = || match &command.log {
        Some(file) => file.try_clone().map(OwnedFd::from),
        None => open_dev_null(),
    };
    let streams = || Ok([Some(open_dev_null()?), Some(sink()?), Some(sink()?)]);
    let spawn = streams().and_then(|streams| Spawn::new(&command, Purpose::Service, streams));
    let spawn = spawn.map_err(|error| ExecError::Start { line, error })?;
    let mut process = spawn.start(&operation, &MAX_START_TIMEOUT.into())?;
    Ok(process.disown().as_raw().cast_unsigned())
}

/// Reads a child's output into memory and the log.
struct OutputReader {
    pipe: File,
    log: Option<File>,
    observer: Option<Box<dyn OutputObserver>>,
    logged: u64,
    output: Output,
    open: bool,
    redactor: Redactor,
    headings: HeadingEscaper,
}

impl OutputReader {
    fn new(
        pipe: OwnedFd,
        log: Option<File>,
        observer: Option<Box<dyn OutputObserver>>,
    ) -> io::Result<OutputReader> {
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(OutputReader {
            pipe: pipe.into(),
            log,
            observer,
            logged: 0,
            output: Output::default(),
            open: true,
            redactor: Redactor::new(),
            headings: HeadingEscaper::default(),
        })
    }

    /// Reads the available output, waiting at most `timeout` for it.
    fn poll_output(&mut self, timeout: Duration) -> io::Result<()> {
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
            Ok(n) => self.redact_and_store(&buffer[..n]),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Stops reading.
    fn close(&mut self) {
        self.open = false;
        let last = self.redactor.finish();
        self.store(&last);
    }

    fn redact_and_store(&mut self, bytes: &[u8]) {
        let shown = self.redactor.push(bytes);
        self.store(&shown);
    }

    fn store(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.output.push(bytes);
        if let Some(observer) = &mut self.observer {
            observer.on_output(bytes);
        }
        let Some(log) = &mut self.log else { return };
        if self.logged > LOG_LIMIT {
            return;
        }
        self.logged += bytes.len() as u64;
        // A failed write (full disk) must not fail the step as well: the output in memory remains.
        let _ = log.write_all(&self.headings.escape(bytes));
        if self.logged > LOG_LIMIT {
            let _ = log.write_all(b"\n[output truncated]\n");
        }
    }
}

fn wait_for_exit(
    process: &mut ChildProcess,
    reader: &mut OutputReader,
    deadline: &Deadline,
) -> io::Result<ExitReason> {
    let mut pause = Duration::from_millis(1);
    let started = Instant::now();
    let mut tracer_checked_at = started;
    loop {
        // The closing pipe signals the exit; the short pause covers a child that closed it early.
        reader.poll_output(pause)?;
        if let Some(observer) = &mut reader.observer {
            observer.on_tick(started.elapsed());
        }
        if process.has_ended()? {
            drain(reader)?;
            // Also ends the processes that the child left in its group.
            let status = process.kill_and_reap()?;
            return Ok(status.map_or(ExitReason::TimedOut(deadline.timeout()), exit_reason));
        }
        if tracer_checked_at.elapsed() >= TRACER_CHECK_INTERVAL {
            tracer_checked_at = Instant::now();
            if process.is_held_by_tracer() {
                terminate(process, reader)?;
                return Ok(ExitReason::HeldByTracer);
            }
        }
        // A silent child may be busy: only the whole run has a limit.
        match deadline.next_wait(Instant::now()) {
            Ok(wait) => pause = (pause * 2).min(MAX_POLL_INTERVAL).min(wait),
            Err(error) => {
                terminate(process, reader)?;
                return Ok(error.into());
            }
        }
    }
}

pub(super) fn exit_reason(status: ExitStatus) -> ExitReason {
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitReason::Exited(code),
        (None, Some(signal)) => ExitReason::Signalled(signal),
        (None, None) => ExitReason::Exited(-1),
    }
}

fn drain(reader: &mut OutputReader) -> io::Result<()> {
    let started = Instant::now();
    while reader.open && started.elapsed() < DRAIN_TIMEOUT {
        let before = reader.output.total();
        reader.poll_output(Duration::from_millis(5))?;
        if reader.open && reader.output.total() == before && started.elapsed() > DRAIN_TIMEOUT / 4 {
            break;
        }
    }
    reader.close();
    Ok(())
}

/// Signals the group to end, then kills it.
fn terminate(process: &mut ChildProcess, reader: &mut OutputReader) -> io::Result<()> {
    process.signal(Signal::SIGTERM);
    let asked_at = Instant::now();
    while !process.has_ended()? {
        if asked_at.elapsed() > GRACE_PERIOD || process.is_held_by_tracer() {
            break;
        }
        reader.poll_output(Duration::from_millis(20))?;
    }
    process.kill_and_reap()?;
    drain(reader)
}
