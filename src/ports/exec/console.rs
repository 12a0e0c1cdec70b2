//! Interactive commands of an operator (`trueup exec`), run in place of trueup: with their own exit code,
//! signals, input and terminal.
//!
//! The command never gets the operator's own terminal: a process that has it open can inject input into the
//! shell that the operator returns to (TIOCSTI), possibly root's. The command gets its own pty in its own
//! session, and trueup relays input and output, as ssh does. Streams that are no terminal are passed as they
//! are.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::PtyMaster;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::dup;

use super::attributes::Purpose;
use super::descriptors::open_dev_null;
use super::process::ChildProcess;
use super::spawn::{MAX_START_TIMEOUT, Spawn};
use super::terminal::{RawMode, copy_window_size, is_in_foreground, open_pty, std_stream};
use super::{Command, ExecError};
use crate::ports::signals::is_ignored;
use crate::ports::watchdog;

/// Time to continue relaying output after the command has ended.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// Size of one relayed chunk, in bytes.
const CHUNK_BYTES: usize = 16 << 10;

/// Runs an interactive command to its end.
pub(super) fn run_interactive(command: &Command) -> Result<ExitStatus, ExecError> {
    let failed = |error| ExecError::Start {
        line: command.command_line(),
        error,
    };
    let (spawn, console) = prepare(command).map_err(failed)?;
    let operation = watchdog::begin(format!("`{}`", command.command_line()), MAX_START_TIMEOUT);
    let process = spawn.start(&operation, &MAX_START_TIMEOUT.into())?;
    drop(operation);
    console(process).relay().map_err(failed)
}

/// Ends trueup with the exit code or signal of the command.
#[allow(
    clippy::exit,
    reason = "trueup is the command as far as its caller can see"
)]
pub(super) fn exit_as(status: ExitStatus) -> ! {
    if let Some(Ok(signal)) = status.signal().map(Signal::try_from) {
        // The command's memory may be dumped, trueup's may not.
        let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
        // SAFETY: the default disposition is no handler.
        unsafe { libc::signal(signal as libc::c_int, libc::SIG_DFL) };
        let _ = raise(signal);
        let mut only = SigSet::empty();
        only.add(signal);
        let _ = only.thread_unblock();
    }
    let code = status.code();
    std::process::exit(code.unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

/// The operator's terminal.
struct CallerTerminal {
    /// Shows what the command prints to its terminal; `None`: no stream is a terminal.
    screen: Option<File>,
    /// Whether typed input goes to the command. Not in the background, and not in a pipeline, where the next
    /// program (`| less`) reads the keyboard.
    keyboard: bool,
}

impl CallerTerminal {
    fn detect() -> io::Result<CallerTerminal> {
        let [stdin, stdout, stderr] = [0, 1, 2].map(std_stream);
        let streams = [stdout, stderr, stdin];
        let screen = streams.into_iter().find(|stream| stream.is_terminal());
        let is_pipe = |fd: BorrowedFd<'_>| {
            fstat(fd).is_ok_and(|stat| {
                SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFIFO
            })
        };
        Ok(CallerTerminal {
            screen: screen.map(dup).transpose()?.map(File::from),
            keyboard: stdin.is_terminal() && !is_pipe(stdout),
        })
    }
}

/// A running command with its relayed signals, input and output.
struct Console {
    process: ChildProcess,
    signals: SignalFd,
    /// `None`: it has no terminal, or its terminal is closed.
    master: Option<PtyMaster>,
    screen: Option<File>,
    keyboard: bool,
    /// Restores the operator's terminal, which is raw while keys go to the command.
    raw_mode: Option<RawMode>,
    /// Typed input that the command has not read yet.
    pending_input: Vec<u8>,
}

/// Prepares the command, and the console that takes over once it runs.
fn prepare(command: &Command) -> io::Result<(Spawn, impl FnOnce(ChildProcess) -> Console)> {
    let caller = CallerTerminal::detect()?;
    let keyboard = caller.keyboard && is_in_foreground();
    // Before the fork, so that no SIGCHLD is missed.
    let signals = block_signals()?;
    let pty = match &caller.screen {
        Some(screen) => Some(open_pty(screen, keyboard, command)?),
        None => None,
    };
    let hand_over = |number| match &pty {
        Some((_, slave)) if std_stream(number).is_terminal() => slave.try_clone().map(Some),
        _ => Ok::<Option<OwnedFd>, io::Error>(None),
    };
    let stdin = match std_stream(0).is_terminal() {
        true if !keyboard => Some(open_dev_null()?),
        _ => hand_over(0)?,
    };
    let streams = [stdin, hand_over(1)?, hand_over(2)?];
    let (master, slave) = pty.unzip();
    let spawn = Spawn::new(command, Purpose::Console, streams)?.terminal(slave);
    let console = move |process| Console {
        process,
        signals,
        master,
        screen: caller.screen,
        keyboard,
        raw_mode: None,
        pending_input: Vec::new(),
    };
    Ok((spawn, console))
}

/// Blocks the signals that concern the command or its terminal, to read them from a descriptor. Signals that
/// the caller ignores (`nohup`) stay ignored.
fn block_signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGTSTP,
        Signal::SIGCONT,
        Signal::SIGWINCH,
        Signal::SIGCHLD,
    ] {
        if matches!(signal, Signal::SIGCHLD) || !is_ignored(signal as libc::c_int) {
            set.add(signal);
        }
    }
    set.thread_block()?;
    Ok(SignalFd::with_flags(
        &set,
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )?)
}

impl Console {
    fn relay(mut self) -> io::Result<ExitStatus> {
        self.enter_raw_mode();
        loop {
            let [signalled, printed, typed] = self.wait(PollTimeout::NONE)?;
            if signalled && let Some(status) = self.forward_signals()? {
                self.drain();
                return Ok(status);
            }
            if printed {
                self.forward_output();
            }
            if typed {
                self.read_input();
            }
            self.forward_input();
        }
    }

    /// Waits for an event: signals, output, typed input.
    fn wait(&self, timeout: PollTimeout) -> io::Result<[bool; 3]> {
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if let Some(master) = &self.master {
            let mut wanted = PollFlags::POLLIN;
            wanted.set(PollFlags::POLLOUT, !self.pending_input.is_empty());
            fds.push(PollFd::new(master.as_fd(), wanted));
            // Input that the command does not read stays queued in the operator's terminal.
            if self.raw_mode.is_some() && self.pending_input.is_empty() {
                fds.push(PollFd::new(std_stream(0), PollFlags::POLLIN));
            }
        }
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready = |at: usize| fds.get(at).and_then(PollFd::any).unwrap_or(false);
        Ok([is_ready(0), is_ready(1), is_ready(2)])
    }

    /// Forwards signals that trueup received. Returns the command's exit status once it has ended.
    fn forward_signals(&mut self) -> io::Result<Option<ExitStatus>> {
        while let Some(info) = self.signals.read_signal()? {
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            let Ok(signal) = Signal::try_from(number) else {
                continue;
            };
            match signal {
                Signal::SIGCHLD => {
                    if let Some(status) = self.process.try_wait()? {
                        return Ok(Some(status));
                    }
                }
                Signal::SIGWINCH => self.resize(),
                Signal::SIGTSTP => self.suspend(),
                Signal::SIGCONT => self.resume(),
                // As a terminal sends them: to the whole foreground group.
                Signal::SIGINT | Signal::SIGQUIT | Signal::SIGHUP => {
                    self.process.signal(signal);
                }
                _ => {
                    let _ = kill(self.process.pid(), signal);
                }
            }
        }
        Ok(None)
    }

    /// Sends keys to the command, unless another program has the operator's terminal.
    fn enter_raw_mode(&mut self) {
        if self.keyboard && self.master.is_some() && self.raw_mode.is_none() && is_in_foreground() {
            self.raw_mode = RawMode::enable().ok();
        }
    }

    fn resize(&self) {
        if let (Some(screen), Some(master)) = (&self.screen, &self.master) {
            copy_window_size(screen, master);
        }
    }

    /// Suspends trueup together with the command, and gives the terminal back to the shell.
    fn suspend(&mut self) {
        self.raw_mode = None;
        self.process.signal(Signal::SIGSTOP);
        let _ = raise(Signal::SIGSTOP);
        self.resume();
    }

    fn resume(&mut self) {
        self.process.signal(Signal::SIGCONT);
        self.enter_raw_mode();
        self.resize();
    }

    /// Relays the output of the command's terminal. Returns whether there was any.
    fn forward_output(&mut self) -> bool {
        let (Some(master), Some(screen)) = (&mut self.master, &mut self.screen) else {
            return false;
        };
        let mut buffer = [0; CHUNK_BYTES];
        match master.read(&mut buffer) {
            Ok(n @ 1..) => {
                // Errors are ignored: SIGHUP reports a lost terminal.
                let _ = screen.write_all(&buffer[..n]);
                true
            }
            Err(error) if is_transient(&error) => false,
            // No process has the command's terminal open any more.
            Ok(_) | Err(_) => {
                self.hang_up();
                false
            }
        }
    }

    fn read_input(&mut self) {
        let mut buffer = [0; CHUNK_BYTES];
        // SAFETY: reads at most the buffer's length. Not through std's buffer, in which keys would be held
        // back.
        let n = unsafe { libc::read(0, buffer.as_mut_ptr().cast(), buffer.len()) };
        match usize::try_from(n) {
            Ok(n @ 1..) => self.pending_input.extend_from_slice(&buffer[..n]),
            Err(_) if is_transient(&io::Error::last_os_error()) => {}
            // The operator's terminal is lost: the command's hangs up as well.
            _ => self.hang_up(),
        }
    }

    /// Closes the command's terminal. Restores the operator's, so that keys reach the remaining processes as
    /// signals.
    fn hang_up(&mut self) {
        self.master = None;
        self.raw_mode = None;
    }

    fn forward_input(&mut self) {
        let Some(master) = &mut self.master else {
            return;
        };
        if self.pending_input.is_empty() {
            return;
        }
        match master.write(&self.pending_input) {
            Ok(n) => drop(self.pending_input.drain(..n)),
            Err(error) if is_transient(&error) => {}
            Err(_) => self.pending_input.clear(),
        }
    }

    /// Relays the command's last output, without waiting for its children to stop printing.
    fn drain(&mut self) {
        let started = Instant::now();
        while started.elapsed() < DRAIN_TIMEOUT && self.forward_output() {}
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
