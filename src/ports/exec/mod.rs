//! Runs child processes, each of which is guaranteed to end.
//!
//! Every child runs in its own session without a terminal, with a deadline, a clean environment and a memory
//! limit for captured output. It inherits no process state from trueup's caller: see `attributes`. At the
//! deadline trueup kills its whole process group, and if trueup itself is killed first, the kernel kills the
//! child (but not the child's own children). The deadline counts from the fork, and the wait after SIGKILL is
//! bounded: see `spawn` and `process`.

mod attributes;
mod child;
mod command;
mod console;
mod descriptors;
mod error;
mod exit;
mod memfd;
mod output;
mod process;
mod program;
mod spawn;
mod stdio;
mod stop_flag;
mod terminal;
#[cfg(test)]
mod tests;

pub(crate) use attributes::reset_inherited_attributes;
pub(crate) use command::{
    Command, DEFAULT_TIMEOUT, DEFAULT_UMASK, Identity, OutputObserver, PATH, first_line,
};
pub(crate) use error::ExecError;
pub(crate) use exit::{CompletedCommand, ExitReason};
pub(crate) use memfd::MemFile;
pub(crate) use output::{LOG_HEADING, LOG_LIMIT, Output, block_quote};
pub(crate) use stdio::PipedChild;
pub(crate) use stop_flag::StopFlag;

use super::deadline::Deadline;

/// Runs children.
#[derive(Debug, Default)]
pub(crate) struct Exec;

impl Exec {
    /// Runs a child to its end and returns its exit reason, success or not.
    pub(crate) fn run(&self, command: Command) -> Result<CompletedCommand, ExecError> {
        child::run(command)
    }

    /// Runs a child that must exit with 0.
    pub(crate) fn run_checked(&self, command: Command) -> Result<CompletedCommand, ExecError> {
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

    /// Starts a child with piped input and output. Ignores `input`, `log`, `observer` and `timeout`: `deadline` limits
    /// the time.
    pub(crate) fn spawn_piped(
        &self,
        command: &Command,
        deadline: Deadline,
    ) -> Result<PipedChild, ExecError> {
        PipedChild::start(command, deadline)
    }

    /// Runs an interactive command in place of trueup: with the caller's input and output, its own pty where
    /// those are a terminal, and the signals that trueup receives. Ends trueup with the command's exit
    /// status, and returns only if the command cannot be run. Ignores `timeout`, `log`, `observer` and
    /// `input`.
    pub(crate) fn run_interactive(&self, command: &Command) -> ExecError {
        match console::run_interactive(command) {
            Ok(status) => console::exit_as(status),
            Err(error) => error,
        }
    }

    /// Runs an interactive command, such as an editor, to its end, like [`Exec::run_interactive`]. Returns whether it
    /// succeeded.
    pub(crate) fn run_at_terminal(&self, command: &Command) -> Result<bool, ExecError> {
        Ok(console::run_interactive(command)?.success())
    }

    /// Starts a child that outlives trueup, in its own session, and returns its process id. Its output goes
    /// to `command.log`; ignores `timeout`, `observer` and `input`.
    pub(crate) fn spawn_detached(&self, command: Command) -> Result<u32, ExecError> {
        child::spawn_detached(command)
    }
}
