//! Runs child processes, each of which is guaranteed to end.
//!
//! Every child runs in its own session without a terminal, with a deadline, a clean environment and a memory
//! limit for captured output. It inherits no process state from trueup's caller: see `attributes`. At the
//! deadline trueup kills its whole process group, and if trueup itself is killed first, the kernel kills the
//! child (but not the child's own children). The deadline counts from the fork, and the wait after SIGKILL is
//! bounded: see `spawn` and `process`.

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

/// `PATH` of every child whose environment has none.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Timeout of a child that sets none.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// Umask of a child that sets none: nginx, another user, serves what a build makes.
pub const DEFAULT_UMASK: u32 = 0o022;

/// The user that a child runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// All groups, including the primary one.
    pub groups: Vec<u32>,
    /// A path of the host.
    pub home: PathBuf,
    pub shell: PathBuf,
}

/// A child to run. The environment is exactly `env` (with [`PATH`] when it has none).
#[derive(Debug)]
pub struct Command {
    pub argv: Vec<OsString>,
    /// A path of the machine, not of the sandbox. `None`: `/`.
    pub cwd: Option<PathBuf>,
    pub env: BTreeMap<OsString, OsString>,
    /// `None`: trueup's own.
    pub identity: Option<Identity>,
    /// Which permissions what it makes does not get.
    pub umask: u32,
    pub timeout: Duration,
    /// Also receives all output, up to 16 MiB.
    pub log: Option<File>,
    /// Passed to the child as 3, 4, …; at most 16.
    pub extra_fds: Vec<OwnedFd>,
    /// Content of standard input.
    pub input: Vec<u8>,
    /// Once set, trueup kills the group as at a deadline. `None`: a request to stop trueup waits for the
    /// child.
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

    /// Runs a step as written by an operator, in a shell.
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

    /// The arguments in shell syntax, for messages.
    pub fn command_line(&self) -> String {
        let argv: Vec<&std::ffi::OsStr> = self.argv.iter().map(OsString::as_os_str).collect();
        // Show a shell step as the operator wrote it.
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
    /// Killed by this signal, which trueup did not send.
    Signalled(i32),
    /// trueup killed it at its deadline.
    TimedOut(Duration),
    /// Its exit status is unknown: another process traces it and withholds the status.
    HeldByTracer,
    /// trueup killed it, because trueup was asked to stop.
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

/// A child that has ended, together with its whole group.
#[derive(Debug)]
pub struct CompletedCommand {
    pub exit_reason: ExitReason,
    /// Standard output and error, interleaved as they arrived.
    pub output: Output,
    pub duration: Duration,
}

impl CompletedCommand {
    pub fn success(&self) -> bool {
        self.exit_reason == ExitReason::Exited(0)
    }
}

/// Reason why a child did not start, or failed.
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
        /// `None`: the user that runs trueup.
        user: Option<String>,
        limit: Duration,
    },
    /// Stopped before its program began.
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
    /// Whether the message ends with what the program printed.
    pub fn has_output(&self) -> bool {
        matches!(self, ExecError::Failed { output, .. } if !output.is_empty())
    }

    /// Whether the program does not exist.
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

/// Set when a signal asks trueup to stop; the pass reads it between resources, and [`Exec`] for children that
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

    /// The flag for a signal handler to set.
    pub fn inner(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }
}

/// Runs children.
#[derive(Debug, Default)]
pub struct Exec;

impl Exec {
    /// Runs a child to its end and returns its exit reason, success or not.
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

    /// Starts a child with piped input and output. Ignores `input`, `log` and `timeout`: `deadline` limits
    /// the time.
    pub fn spawn_piped(
        &self,
        command: &Command,
        deadline: Deadline,
    ) -> Result<PipedChild, ExecError> {
        PipedChild::start(command, deadline)
    }

    /// Runs an interactive command in place of trueup: with the caller's input and output, its own pty where
    /// those are a terminal, and the signals that trueup receives. Ends trueup with the command's exit
    /// status, and returns only if the command cannot be run. Ignores `timeout`, `log` and `input`.
    pub fn run_interactive(&self, command: &Command) -> ExecError {
        match console::run_interactive(command) {
            Ok(status) => console::exit_as(status),
            Err(error) => error,
        }
    }

    /// Starts a child that outlives trueup, in its own session, and returns its process id. Its output goes
    /// to `command.log`; ignores `timeout` and `input`.
    pub fn spawn_detached(&self, command: Command) -> Result<u32, ExecError> {
        child::spawn_detached(command)
    }
}
