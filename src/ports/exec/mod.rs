//! The exec port: children that always end.
//!
//! Every child runs in a session of its own without a terminal, with a deadline, a clean environment and
//! a bounded share of memory for what it prints. It has nothing of the process state of whoever started
//! trueup: see `attributes`. At the deadline its whole process group is killed, and the kernel kills the
//! child (though not the child's own children) should trueup itself be killed first. The deadline counts from
//! the fork on, and after SIGKILL nobody is waited for without an end: see `spawn` and `process`.

mod attributes;
mod child;
mod console;
mod descriptors;
mod memfd;
mod output;
mod process;
mod program;
mod spawn;
mod stdio;
mod terminal;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use attributes::reset_inherited_attributes;
pub use memfd::MemFile;
pub use output::{LOG_HEADING, LOG_LIMIT, Output, block_quote};
pub use stdio::PipedChild;

use super::deadline::Deadline;

/// The search path of every child that does not bring its own.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long a child may take when nothing else is said.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// The umask of a child for which nothing else is said: what a build makes is served by nginx, which is
/// another user.
pub const DEFAULT_UMASK: u32 = 0o022;

/// As whom a child runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// All groups, the main one included.
    pub groups: Vec<u32>,
    /// As a path of the host.
    pub home: PathBuf,
    pub shell: PathBuf,
}

/// A child to run. The environment is exactly `env` (with [`PATH`] when it has none).
#[derive(Debug)]
pub struct Command {
    pub argv: Vec<OsString>,
    /// Outside path. `None`: `/`.
    pub cwd: Option<PathBuf>,
    pub env: BTreeMap<OsString, OsString>,
    /// `None`: as trueup itself.
    pub identity: Option<Identity>,
    /// Which permissions what it makes does not get.
    pub umask: u32,
    pub timeout: Duration,
    /// Where everything that it prints is kept as well; at most 16 MiB.
    pub log: Option<File>,
    /// Descriptors that the child gets as 3, 4, …, at most 16.
    pub extra_fds: Vec<OwnedFd>,
    /// Given on standard input.
    pub input: Vec<u8>,
    /// Once this is set, the group is killed as at a deadline. `None`: whoever asks trueup to stop waits
    /// for the child.
    pub stop: Option<StopFlag>,
}

impl Command {
    pub fn new<I, S>(argv: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: Into<OsString>,
    {
        Command {
            argv: argv.into_iter().map(Into::into).collect(),
            cwd: None,
            env: BTreeMap::new(),
            identity: None,
            umask: DEFAULT_UMASK,
            timeout: DEFAULT_TIMEOUT,
            log: None,
            extra_fds: Vec::new(),
            input: Vec::new(),
            stop: None,
        }
    }

    /// A line for the shell, as people write steps.
    pub fn shell(line: &str) -> Command {
        Command::new(["/bin/sh", "-e", "-c", line])
    }

    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Command {
        self.env.insert(key.into(), value.into());
        self
    }

    pub fn timeout(mut self, timeout: Duration) -> Command {
        self.timeout = timeout;
        self
    }

    /// For messages: the arguments as a shell would take them.
    pub fn command_line(&self) -> String {
        let argv: Vec<&std::ffi::OsStr> = self.argv.iter().map(OsString::as_os_str).collect();
        // A shell step is shown as it was written.
        if let [sh, flag, dash_c, line] = argv.as_slice()
            && *sh == "/bin/sh"
            && *flag == "-e"
            && *dash_c == "-c"
        {
            return line.to_string_lossy().into_owned();
        }
        argv.iter()
            .map(|arg| shell_quote(&arg.to_string_lossy()))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

fn shell_quote(arg: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=/.,:@%+".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) {
        arg.to_owned()
    } else {
        format!("'{}'", arg.replace('\'', r"'\''"))
    }
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitReason {
    Exited(i32),
    /// By this signal, not sent by us.
    Signalled(i32),
    /// Killed by us at its deadline.
    TimedOut(Duration),
    /// How is not known: another process traces it and keeps that to itself.
    HeldByTracer,
    /// Killed by us, since somebody asked trueup to stop.
    Stopped,
}

impl std::fmt::Display for ExitReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ExitReason::Exited(code) => write!(f, "exited with {code}"),
            ExitReason::Signalled(signal) => {
                let name = nix::sys::signal::Signal::try_from(*signal)
                    .map_or_else(|_| signal.to_string(), |signal| signal.to_string());
                write!(f, "was killed by {name}")
            }
            ExitReason::TimedOut(limit) => write!(
                f,
                "was killed: not finished within its timeout of {} s",
                limit.as_secs_f32()
            ),
            ExitReason::HeldByTracer => write!(
                f,
                "has ended, but another process traces it and withholds how (`ps` shows it as `defunct`, /proc/PID/status by whom it is traced)"
            ),
            ExitReason::Stopped => write!(f, "was killed: trueup was asked to stop"),
        }
    }
}

/// A child that ran and is gone, its whole group with it.
#[derive(Debug)]
pub struct CompletedCommand {
    pub exit_reason: ExitReason,
    /// Standard output and error, in the order in which they came.
    pub output: Output,
    pub duration: Duration,
}

impl CompletedCommand {
    pub fn success(&self) -> bool {
        self.exit_reason == ExitReason::Exited(0)
    }
}

/// Why a child did not run at all, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    #[error("cannot run `{line}`: {source}")]
    Start {
        line: String,
        source: std::io::Error,
    },
    #[error("`{line}` did not begin within {} s and was killed: {}", limit.as_secs_f32(), start_timeout_cause(user.as_deref()))]
    StartTimedOut {
        line: String,
        /// `None`: as trueup itself.
        user: Option<String>,
        limit: Duration,
    },
    /// Before it began.
    #[error("`{line}` was killed: trueup was asked to stop")]
    Stopped { line: String },
    #[error("`{line}` {ended}{}", printed_output(output))]
    Failed {
        line: String,
        ended: ExitReason,
        /// The last lines that it printed.
        output: String,
    },
}

impl ExecError {
    /// There is no such program.
    pub fn is_program_missing(&self) -> bool {
        matches!(self, ExecError::Start { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }
}

fn start_timeout_cause(user: Option<&str>) -> String {
    let filesystem =
        "its folder or its program is on a filesystem that does not answer (`dmesg`, `mount`)";
    match user {
        None => filesystem.to_owned(),
        Some(user) => format!(
            "another process of {user} stopped it before it was its program, or {filesystem}; look for processes of {user} that should not be there (`ps -fu {user}`) and end them"
        ),
    }
}

fn printed_output(output: &str) -> String {
    if output.is_empty() {
        " (it printed nothing)".into()
    } else {
        format!("; it printed:\n{}", block_quote(output))
    }
}

/// Set once somebody asked trueup to stop; read between resources, and by [`Exec`] for children that
/// may be stopped.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// For a signal handler to set.
    pub fn inner(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }
}

/// Runs children.
#[derive(Debug, Default)]
pub struct Exec;

impl Exec {
    /// Runs a child to its end, whatever the end is.
    pub fn run(&self, command: Command) -> Result<CompletedCommand, ExecError> {
        child::run(command)
    }

    /// Runs a child that must exit with 0.
    pub fn run_checked(&self, command: Command) -> Result<CompletedCommand, ExecError> {
        let line = command.command_line();
        let finished = self.run(command)?;
        if finished.success() {
            return Ok(finished);
        }
        Err(ExecError::Failed {
            line,
            ended: finished.exit_reason,
            output: finished.output.tail(20),
        })
    }

    /// Starts a child to talk with. `input`, `log` and `timeout` mean nothing here: `deadline` says
    /// how long it may take.
    pub fn spawn_piped(
        &self,
        command: &Command,
        deadline: Deadline,
    ) -> Result<PipedChild, ExecError> {
        PipedChild::start(command, deadline)
    }

    /// Runs a command as a person's own, in the place of trueup itself: with the caller's input and output, a
    /// terminal of its own where those are one, and the signals that trueup is sent. Ends trueup as the
    /// command ended, and returns only if it cannot be run. `timeout`, `log` and `input` mean nothing here.
    pub fn run_interactive(&self, command: &Command) -> ExecError {
        match console::run_interactive(command) {
            Ok(status) => console::exit_as(status),
            Err(error) => error,
        }
    }

    /// Starts a child that outlives trueup, in a session of its own, and returns its process id.
    /// What it prints goes to `command.log`; `timeout` and `input` mean nothing here.
    pub fn spawn_detached(&self, command: Command) -> Result<u32, ExecError> {
        child::spawn_detached(command)
    }
}
