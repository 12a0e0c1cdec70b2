//! Asks an operator at the terminal for a yes. Questions use standard error and standard input, so that standard output
//! stays reserved for results.

use std::io::{BufRead, IsTerminal, Write};

use crate::operate::CommandError;
use crate::printable;
use crate::problem::Problem;

/// Whether an operator can answer.
pub(super) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Whether the operator says yes. Without a terminal it is an error, which names the option that answers instead.
pub(super) fn confirm(question: &str, option: &str) -> Result<bool, CommandError> {
    let question = printable::line(question);
    if !is_interactive() {
        let problem = Problem::new(format!("there is no terminal to ask: {question}"));
        return Err(CommandError::Usage(
            problem.hint(format!("{option} answers it")),
        ));
    }
    let _ = write!(std::io::stderr(), "{question} (yes or no) [no]: ");
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    let length = std::io::stdin().lock().read_line(&mut line);
    if !length.is_ok_and(|bytes| bytes > 0) {
        return Err(CommandError::failed("nobody answered"));
    }
    Ok(["y", "yes"].contains(&line.trim().to_lowercase().as_str()))
}

/// The same, where a no ends the command.
pub(super) fn require(question: &str, option: &str) -> Result<(), CommandError> {
    match confirm(question, option)? {
        true => Ok(()),
        false => Err(CommandError::failed("not confirmed; nothing was written")),
    }
}
