//! A child with piped input and output: trueup reads its output while it runs, and sends it more input.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;

use super::attributes::Purpose;
use super::output::Output;
use super::process::ChildProcess;
use super::spawn::Spawn;
use super::{Command, ExecError, ExitReason, child};
use crate::ports::deadline::Deadline;
use crate::ports::watchdog::{self, Operation};

/// Bytes of the child's output that are buffered while trueup writes to it.
const MAX_BUFFERED_BYTES: usize = 1 << 20;

/// Time for a child to end after its input is closed.
const GRACE_PERIOD: Duration = Duration::from_secs(2);

/// A running child between two pipes. Dropping this value kills its whole group.
///
/// Reads and writes wait until the deadline; both fail with a
/// [`DeadlineError`](crate::ports::deadline::DeadlineError) or the system's error.
#[derive(Debug)]
pub(crate) struct PipedChild {
    process: ChildProcess,
    stdin: Option<File>,
    /// `None` at end of file.
    stdout: Option<File>,
    stderr: Option<File>,
    stderr_output: Output,
    stdout_buffer: Vec<u8>,
    deadline: Deadline,
    last_activity: Instant,
    exit_reason: Option<ExitReason>,
    #[allow(dead_code, reason = "ends when dropped")]
    operation: Operation,
}

impl PipedChild {
    pub(super) fn start(command: &Command, deadline: Deadline) -> Result<PipedChild, ExecError> {
        let failed = |error| ExecError::Start {
            line: command.command_line(),
            error,
        };
        let operation = watchdog::begin(
            format!("`{}`", command.command_line()),
            deadline.remaining(),
        );
        let pipes = || -> io::Result<_> {
            let [
                (child_stdin, stdin),
                (stdout, child_stdout),
                (stderr, child_stderr),
            ] = [
                pipe2(OFlag::O_CLOEXEC)?,
                pipe2(OFlag::O_CLOEXEC)?,
                pipe2(OFlag::O_CLOEXEC)?,
            ];
            for pipe in [&stdin, &stdout, &stderr] {
                fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            }
            let streams = [child_stdin, child_stdout, child_stderr].map(Some);
            let own_ends = [stdin, stdout, stderr].map(|pipe| Some(File::from(pipe)));
            Ok((Spawn::new(command, Purpose::Task, streams)?, own_ends))
        };
        let (spawn, [stdin, stdout, stderr]) = pipes().map_err(failed)?;
        Ok(PipedChild {
            process: spawn.start(&operation, &deadline)?,
            stdin,
            stdout,
            stderr,
            stderr_output: Output::default(),
            stdout_buffer: Vec::new(),
            deadline,
            last_activity: Instant::now(),
            exit_reason: None,
            operation,
        })
    }

    /// Ends the child's input.
    pub(crate) fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Closes the child's input and waits a moment for its end. Returns its exit reason and its standard
    /// error. Discards further output.
    pub(crate) fn finish(&mut self) -> (ExitReason, String) {
        self.stdin = None;
        let asked = Instant::now();
        let in_time = loop {
            match self.process.has_ended() {
                Ok(false) if self.exit_reason.is_none() && asked.elapsed() < GRACE_PERIOD => {}
                answer => break answer.unwrap_or(false),
            }
            self.stdout_buffer.clear();
            // The child may be blocked on a full output pipe.
            let _ = self.poll_pipes(false, Duration::from_millis(5));
        };
        // By now the pipe holds everything that it printed.
        while self.stderr.is_some() && matches!(self.poll_pipes(false, Duration::ZERO), Ok(true)) {
            self.stdout_buffer.clear();
        }
        let ended = match (self.exit_reason, self.process.kill_and_reap()) {
            (Some(ended), _) => ended,
            (None, Ok(Some(status))) if in_time => child::exit_reason(status),
            _ => ExitReason::TimedOut(GRACE_PERIOD),
        };
        self.exit_reason = Some(ended);
        (ended, self.stderr_output.text())
    }

    /// The output that is there, without waiting for more and regardless of the deadline; `None` at its end.
    pub(crate) fn read_available(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.poll_pipes(false, Duration::ZERO)?;
        let bytes = std::mem::take(&mut self.stdout_buffer);
        Ok((!bytes.is_empty() || self.stdout.is_some()).then_some(bytes))
    }

    /// Waits until a pipe is readable or writable, and reads what arrived. Returns whether anything did.
    fn poll_pipes(&mut self, writing: bool, wait: Duration) -> io::Result<bool> {
        let room = self.stdout_buffer.len() < MAX_BUFFERED_BYTES;
        let stdin = self.stdin.as_ref().filter(|_| writing);
        let stdout = self.stdout.as_ref().filter(|_| room);
        let wanted = [
            (stdin, PollFlags::POLLOUT),
            (stdout, PollFlags::POLLIN),
            (self.stderr.as_ref(), PollFlags::POLLIN),
        ];
        let ready = poll_ready(
            wanted.map(|(file, flags)| Some((file?.as_fd(), flags))),
            wait,
        )?;
        if ready[1] {
            let mut buffer = [0; 16 << 10];
            match read_available(&mut self.stdout, &mut buffer)? {
                0 => {}
                n => self.stdout_buffer.extend_from_slice(&buffer[..n]),
            }
        }
        if ready[2] {
            let mut buffer = [0; 4 << 10];
            let n = read_available(&mut self.stderr, &mut buffer)?;
            self.stderr_output.push(&buffer[..n]);
        }
        let any = ready.contains(&true);
        if any {
            self.last_activity = Instant::now();
        }
        Ok(any)
    }

    fn wait_ready(&mut self, writing: bool) -> io::Result<()> {
        let wait = self
            .deadline
            .next_wait(self.last_activity)
            .map_err(io::Error::other)?;
        self.poll_pipes(writing, wait)?;
        Ok(())
    }
}

impl Read for PipedChild {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.last_activity = Instant::now();
        while self.stdout_buffer.is_empty() {
            if self.stdout.is_none() {
                return Ok(0);
            }
            self.wait_ready(false)?;
        }
        let length = self.stdout_buffer.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.stdout_buffer[..length]);
        self.stdout_buffer.drain(..length);
        Ok(length)
    }
}

impl Write for PipedChild {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.last_activity = Instant::now();
        loop {
            let Some(stdin) = &mut self.stdin else {
                return Err(ErrorKind::BrokenPipe.into());
            };
            match stdin.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait_ready(true)?,
                answer => return answer,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns which pipes are readable or writable, after waiting at most `wait` for one.
fn poll_ready(
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
        // Interrupted by a signal: the caller polls again.
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut answers = fds.iter().map(|fd| fd.any().unwrap_or(false));
    Ok(wanted.map(|fd| fd.is_some() && answers.next().unwrap_or(false)))
}

/// Reads the available bytes; closes the pipe at end of file.
fn read_available(pipe: &mut Option<File>, buffer: &mut [u8]) -> io::Result<usize> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::exec::Exec;

    #[test]
    fn output_is_read_as_it_comes_without_waiting_for_more() {
        let command = Command::shell("echo a; read x; echo $x; echo b; exit 3");
        let mut child = Exec
            .spawn_piped(&command, Duration::from_secs(30).into())
            .unwrap();
        let mut output = Vec::new();
        let mut empty_reads = 0;
        while let Some(bytes) = child.read_available().unwrap() {
            empty_reads += usize::from(bytes.is_empty() && output == b"a\n");
            output.extend(bytes);
            if empty_reads == 3 {
                empty_reads += 1;
                child.write_all(b"c\n").unwrap();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(output, b"a\nc\nb\n");
        assert_eq!(child.finish().0, ExitReason::Exited(3));
    }
}
