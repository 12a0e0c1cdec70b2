//! Why a child did not start, or failed.

use std::time::Duration;

use super::command::first_line;
use super::exit::ExitReason;
use super::output::block_quote;

/// Reason why a child did not start, or failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecError {
    #[error("cannot run `{}`: {error}", first_line(line))]
    Start { line: String, error: std::io::Error },
    #[error("`{}` did not start within {} s and was killed: {}", first_line(line), limit.as_secs_f32(), start_timeout_cause(user.as_deref()))]
    StartTimedOut {
        line: String,
        /// `None`: the user that runs trueup.
        user: Option<String>,
        limit: Duration,
    },
    /// Stopped before its program began.
    #[error("`{}` was killed: trueup was asked to stop", first_line(line))]
    Stopped { line: String },
    #[error("`{}` {ended}{}", first_line(line), printed_output(output))]
    Failed {
        line: String,
        ended: ExitReason,
        /// The last lines that it printed.
        output: String,
    },
}

impl ExecError {
    /// Whether the message ends with what the program printed.
    pub(crate) fn has_output(&self) -> bool {
        matches!(self, ExecError::Failed { output, .. } if !output.is_empty())
    }

    /// Whether the program does not exist.
    pub(crate) fn is_program_missing(&self) -> bool {
        matches!(self, ExecError::Start { error, .. } if error.kind() == std::io::ErrorKind::NotFound)
    }
}

fn start_timeout_cause(user: Option<&str>) -> String {
    let filesystem = "its working folder or its program is on a filesystem that does not respond (`dmesg`, `mount`)";
    match user {
        None => filesystem.to_owned(),
        Some(user) => format!(
            "another process of {user} stopped it before exec, or {filesystem}; find unexpected processes of {user} (`ps -fu {user}`) and stop them"
        ),
    }
}

fn printed_output(output: &str) -> String {
    if output.is_empty() {
        " (it printed nothing)".into()
    } else {
        format!("\n{}", block_quote(output))
    }
}
